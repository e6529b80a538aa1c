"""Our own processes are told everything by their environment, and nothing in ours can lead them astray."""

from pathlib import Path

import pytest

from local.data_directory import DataDirectory, StackError
from local.ports import hold_free
from local.postgres import PostgresServer
from local.stack import Application, merged, own_command, wishes
from local.stack_file import load_or_create
from local.temporal import TemporalServer


def test_what_the_stack_decides_wins_however_it_is_spelled() -> None:
    inherited = {"DATABASE_URL": "elsewhere", "database_url": "elsewhere", "PATH": "/bin", "BATCH_EVENTS": "1"}
    assert merged(inherited, {"DATABASE_URL": "here"}) == {"PATH": "/bin", "BATCH_EVENTS": "1", "DATABASE_URL": "here"}


def test_nothing_that_would_lead_a_client_to_another_server_is_inherited() -> None:
    inherited = {"TEMPORAL_API_KEY": "x", "TEMPORAL_PROFILE": "cloud", "PGHOST": "db", "PGSSLMODE": "require"}
    assert merged(inherited, {"TEMPORAL_ADDRESS": "127.0.0.1:1"}) == {"TEMPORAL_ADDRESS": "127.0.0.1:1"}


def test_a_module_in_the_callers_directory_is_not_taken_for_ours() -> None:
    assert own_command("api")[1:] == ("-P", "-m", "cli", "api")


def test_the_ports_people_see_have_defaults_and_an_option_each() -> None:
    seen = {wish.option: wish.default for wish in wishes({}) if wish.option}
    assert seen == {"--api-port": 8080, "--ui-port": 8233, "--temporal-port": 7233}
    assert {wish.asked for wish in wishes({"--api-port": 0, "--temporal-port": 9})} == {0, 9, None}


async def test_a_failed_migration_is_reported_with_its_cause(tmp_path: Path) -> None:
    data = DataDirectory.at(tmp_path)
    log = data.log("migrate")
    with hold_free() as held:  # bound, but nothing listens
        port = held.getsockname()[1]
        application = Application(
            data,
            load_or_create(data.secrets, data.postgres),
            PostgresServer(data.postgres, port, "the password", log, data.cluster),
            TemporalServer(data.temporal_database, port, port, port, port, log),
            port,
            port,
        )
        with pytest.raises(StackError, match=r"^The migrations failed: .*Connect call failed") as failed:
            await application.migrate()
    assert "the password" not in str(failed.value)
