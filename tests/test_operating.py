"""The commands for servers of one's own, typed as they stand in the README and in docs/operating.md.

The page's go from a PostgreSQL and a Temporal to deliveries, through an upgrade, and from a dump to deliveries again.
"""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.testing import WorkflowEnvironment

from settings import Settings
from storage.database import IDLE_IN_TRANSACTION_MS, SERVER_SETTINGS, Database
from tests.databases import empty_database
from tests.deadlines import eventually
from tests.house import ROOT
from tests.pages import PATIENCE_SECONDS, blocks, free_port, typing_shell
from tests.replay.actions import table
from tests.temporal_server import PROGRAMS, START_TIMEOUT

PAGE = (ROOT / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
RUN = [block for language, block in BLOCKS if language == "sh"]
BLOCK_SECONDS = 150  # one starts two processes and waits for both, beside whatever else is tested
PORTS = ("8080", "8081", "8082", "9000")


def test_the_actions_told_are_those_of_the_recorded_histories() -> None:
    assert "\n".join(table()) in PAGE, "python -m tests.replay.actions prints them"


def test_the_task_queue_that_workers_poll_is_named() -> None:
    assert Settings.model_fields["task_queue"].default in PAGE


def test_what_is_not_run_says_that_it_needs_what_is_not_here() -> None:
    others = {language for language, _ in BLOCKS} - {"sh"}
    assert others == {"console", "ini", "python", "sql", "text", "yaml"}  # python: tests/sending/http/test_transport.py
    typed = [line for language, block in BLOCKS if language == "console" for line in block.splitlines()]
    programs = {line.split()[1] for line in typed if line.startswith("$ ")}
    assert programs <= {"docker", "kubectl", "sh"}


def test_a_pooler_is_configured_for_every_parameter_that_it_does_not_forward() -> None:
    [pooler] = [block for language, block in BLOCKS if language == "ini"]
    [roles] = [block for language, block in BLOCKS if language == "sql"]
    ignored = re.findall(r"^ignore_startup_parameters = (.*)$", pooler, re.MULTILINE)
    assert set(ignored[0].split(", ")) == set(SERVER_SETTINGS)
    in_seconds = {"idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS)}
    for name, value in (SERVER_SETTINGS | in_seconds).items():
        written = f"'{int(value) // 1000}s'" if name.endswith("_timeout") else value
        assert f"SET {name} = {written};" in roles


@pytest.fixture(scope="module")
async def temporal_address(programs: None) -> AsyncIterator[str]:
    """A Temporal with nothing of ours in it."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(PROGRAMS / "temporal"),
        dev_server_log_level="never",
        dev_server_startup_timeout=START_TIMEOUT,
    ) as temporal:
        yield temporal.client.service_client.config.target_host


def with_own_servers(block: str, database_url: str, temporal_address: str) -> str:
    """The block with these servers in place of those of example.com."""
    block = re.sub(r"postgresql://[^/]+/loyalty", database_url, block)  # and what follows: loyalty_restored
    block = block.replace("temporal.example.com:7233", temporal_address)
    assert "example.com" not in block
    return block


@pytest.mark.stack
@pytest.mark.timeout(600)
async def test_the_commands_of_the_readme_bring_up_a_working_installation(
    tmp_path: Path, postgres: str, temporal_address: str
) -> None:
    ((_, block),) = blocks("On servers of your own")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    port = free_port()
    async with empty_database() as database_url, typing_shell(tmp_path, port) as shell:
        block = with_own_servers(block, database_url, temporal_address)
        printed = await shell.run(f"export API_PORT={port}\n{block}", BLOCK_SECONDS)
        keys = [line for line in printed if re.fullmatch(r"lwk_\S+", line)]
        assert len(keys) == 1, printed
        shell.type(f"loyalty-webhooks emit --sample --api http://127.0.0.1:{port} --key {keys[0]} --patience 60\n")
        await shell.wait_for("17          0         0")
        database = Database(database_url, pool_size=1)

        async def taken() -> bool:
            async with database.transaction() as connection:
                result = await connection.execute(text("SELECT count(*) FROM event WHERE matched_at IS NOT NULL"))
                return result.scalar_one() == 17

        await eventually(taken, PATIENCE_SECONDS, "the worker has taken every event")
        await database.close()
        await shell.run("kill %1 %2; wait", BLOCK_SECONDS)


@pytest.mark.stack
@pytest.mark.timeout(600)
async def test_the_page_is_followed_to_the_letter(tmp_path: Path, postgres: str, temporal_address: str) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    ports = {port: free_port() for port in PORTS}
    async with empty_database() as database_url, typing_shell(tmp_path, "9000") as shell:
        await shell.run("set -o errexit -o pipefail")
        printed: list[str] = []
        restored = f"{database_url.rpartition('/')[2]}_restored"
        for block in RUN:
            here = with_own_servers(block, database_url, temporal_address)
            here = here.replace(" loyalty_restored\n", f" {restored}\n")
            for port, free in ports.items():
                here = re.sub(rf"\b{port}\b", free, here)
            printed += await shell.run(here, BLOCK_SECONDS)
        await shell.run("set +o errexit; kill $(jobs -p); wait")
        await shell.run(f'"$PROGRAMS/dropdb" --force --maintenance-db={database_url} {restored}')
    said = "\n".join(printed)
    assert "Namespace loyalty would be made" in said
    assert "Namespace loyalty was made" in said
    assert "Version 1 runs workflows now." in said
    assert "Version 2 runs 10 % of workflows now." in said
    assert "Version 2 runs workflows now." in said
    assert "-- nothing to do" in said
    assert "already" in said
    for log in ("api.log", "worker-1.log", "worker-2.log"):
        assert "Traceback" not in (tmp_path / log).read_text(), log
