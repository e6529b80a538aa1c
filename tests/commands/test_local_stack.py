"""Commands find the stack of their data directory: its API, its database and its Temporal."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from local.data_directory import DataDirectory, write_private
from local.stack_file import AdminLogin, Pids, Stack, new_secrets, write_stack
from storage.database import Database
from storage.sealing import Sealer
from tests.commands.running import Ended, run
from tests.ground import STORE, Ground

NEVER_CUT = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}  emitter  event:emit  \*", re.MULTILINE)
NOWHERE = "postgresql://somebody@127.0.0.1:9/none"


class Local:
    """A data directory as `up` keeps it while it runs; nothing in the environment."""

    def __init__(self, directory: Path, database_url: str, temporal: str) -> None:
        self.directory = directory
        self.data = DataDirectory.at(directory / ".loyalty-webhooks")
        self.data.create()
        self.secrets = new_secrets()
        write_private(self.data.secrets, self.secrets.model_dump_json())
        self.stack = Stack(
            api="http://127.0.0.1:9",
            panel="",
            docs="",
            temporal_ui="",
            temporal=temporal,
            namespace="default",
            database=database_url,
            admin=AdminLogin(username="a", password="b"),
            api_key=self.secrets.api_key,
            store=STORE,
            pids=Pids(api=1, worker=1, temporal=1, postgres=1),
        )
        write_stack(self.data.stack, self.stack)

    async def run(self, *arguments: str, given: str = "", **environment: str) -> Ended:
        return await run(*arguments, directory=self.directory, standard_input=given.encode(), environment=environment)


@pytest.fixture
async def local(
    tmp_path: Path, database_url: str, database: Database, temporal: WorkflowEnvironment
) -> AsyncIterator[Local]:
    await Ground(database).add_store()
    local = Local(tmp_path, database_url, temporal.client.service_client.config.target_host)
    with local.data.locked():
        yield local


CUSTOMER = "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70"
ROWS = f"levelId,customerId,recalculateAt,updatedAt\n{CUSTOMER},{CUSTOMER},2030-01-01T00:00:00Z,2026-01-01T00:00:00Z\n"
COMMANDS = (
    "migrate",
    "stores create of-a-stack",
    "stores list",
    "admin create alex",
    "admin reset-password alex",
    "admin list",
    "keys create emitter --scope event:emit",
    "keys list",
    f"expiry import levels rows.csv --store {STORE}",
    f"erase --store {STORE} --customer {CUSTOMER} --yes",
    "rotate-encryption-key",
    "reconcile",
)


async def test_every_command_over_the_database_works_on_the_stack_of_the_default_directory_and_prints_json(
    local: Local,
) -> None:
    (local.directory / "rows.csv").write_text(ROWS)
    for command in COMMANDS:
        ended = await local.run(*command.split(), "--json", given="correct horse battery staple\n")
        assert ended.code == 0, (command, ended)
        json.loads(ended.output)
    assert NEVER_CUT.search((await local.run("keys", "list", COLUMNS="20")).output)


async def test_data_dir_wins_over_the_settings_and_the_settings_over_the_default_directory(local: Local) -> None:
    nowhere = {"DATABASE_URL": NOWHERE, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    given = await local.run("stores", "list", **nowhere)
    assert (given.code, "The database of DATABASE_URL cannot be reached" in given.errors) == (1, True)
    assert (await local.run("stores", "list", "--data-dir", str(local.data.root), **nowhere)).code == 0


@pytest.mark.parametrize(
    ("options", "asked"), [("", 8), ("--data-dir .loyalty-webhooks", 9), ("--data-dir x --api http://127.0.0.1:7", 7)]
)
async def test_data_dir_wins_over_the_api_of_the_environment_and_api_over_data_dir(
    tmp_path: Path, options: str, asked: int
) -> None:
    local = Local(tmp_path, NOWHERE, "127.0.0.1:9")
    with local.data.locked():
        elsewhere = {"LOYALTY_WEBHOOKS_API": "http://127.0.0.1:8", "LOYALTY_WEBHOOKS_KEY": "k"}
        ended = await local.run("schedules", "list", *options.split(), **elsewhere)
    assert (ended.code, f"http://127.0.0.1:{asked} cannot be reached" in ended.errors) == (2, True), ended


async def test_the_stacks_own_keys_open_its_secrets(local: Local, database: Database) -> None:
    sealed = Sealer(list(local.secrets.encryption_keys)).seal("secret")
    await Ground(database).emit("CustomerUpdated", "{}", sealed_data=sealed)
    ended = await local.run("rotate-encryption-key")
    assert (ended.code, "The first key encrypts everything" in ended.output) == (0, True), ended


async def test_without_a_stack_and_without_settings_both_remedies_are_named(tmp_path: Path) -> None:
    ended = await run("keys", "list", directory=tmp_path)
    words = " ".join(ended.errors.replace("│", " ").split())
    assert (ended.code, "loyalty-webhooks up" in words) == (2, True)
    assert "DATABASE_URL and ENCRYPTION_KEYS" in words


async def test_what_a_killed_stack_left_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    local = Local(tmp_path, NOWHERE, "127.0.0.1:9")
    for command in ("stores list", "schedules list", "status"):
        ended = await local.run(*command.split())
        assert (ended.code, "no stack is up in" in " ".join(ended.errors.replace("│", " ").split())) == (2, True), ended


async def test_a_stack_that_starts_or_stops_is_not_called_missing(tmp_path: Path) -> None:
    local = Local(tmp_path, NOWHERE, "127.0.0.1:9")
    local.data.stack.unlink()  # `up` writes it once the stack is healthy
    with local.data.locked():
        ended = await local.run("stores", "list")
    assert ended.code == 2
    assert "is starting or stopping" in " ".join(ended.errors.replace("│", " ").split())


async def test_a_database_of_a_stack_that_does_not_answer_is_named(tmp_path: Path) -> None:
    local = Local(tmp_path, NOWHERE, "127.0.0.1:9")
    with local.data.locked():
        ended = await local.run("stores", "list")
    assert (ended.code, f"The database of {local.data.root} cannot be reached" in ended.errors) == (
        1,
        True,
    )
