"""`loyalty-webhooks admin|stores|keys …`: what an operator types, and what that does to the database."""

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from domain.access import Scope
from storage.access.passwords import Passwords
from storage.access.queries import find_administrator, find_usable_key
from storage.database import Database
from tests.commands.running import Ended, run

PASSWORD = "correct horse battery staple"
ENCRYPTION_KEY = Fernet.generate_key().decode()


class Operator:
    """Somebody at a terminal, whose environment names the database."""

    def __init__(self, database: Database, url: str, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self._environment = {"DATABASE_URL": url, "ENCRYPTION_KEYS": ENCRYPTION_KEY}

    async def types(self, *arguments: str, given: str = "") -> Ended:
        """The outcome of one command, `given` on its standard input."""
        return await run(
            *arguments, directory=self.directory, environment=self._environment, standard_input=given.encode()
        )

    async def does(self, *arguments: str, given: str = "") -> str:
        """What a command that succeeds prints."""
        ended = await self.types(*arguments, given=given)
        assert ended.code == 0, ended
        return ended.output

    async def refused(self, *arguments: str, given: str = "") -> tuple[int, str]:
        """Status and complaint of a command that fails."""
        ended = await self.types(*arguments, given=given)
        return ended.code, ended.errors

    async def audit(self) -> list[dict[str, Any]]:
        """The audit, oldest first."""
        async with self.database.transaction() as connection:
            rows = await connection.execute(text("SELECT * FROM audit ORDER BY id"))
            return [dict(row) for row in rows.mappings()]


@pytest.fixture
def operator(database: Database, database_url: str, tmp_path: Path) -> Operator:
    return Operator(database, database_url, tmp_path)


async def test_a_store_is_created_and_listed(operator: Operator) -> None:
    assert "second" in await operator.does("stores", "create", "second", "--timezone", "Europe/Warsaw")
    listed = await operator.does("stores", "list")
    assert re.search(r"second.*second.*Europe/Warsaw", listed)
    line = (await operator.audit())[0]
    assert (line["action"], line["object_type"], line["object_id"]) == ("create", "store", "second")
    assert line["actor"].startswith("cli:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stores", "create", "a/b"), "a store code is"),
        (("stores", "create", "admin"), "reserved"),
        (("stores", "create", "ok", "--timezone", "Mars/Olympus"), "IANA"),
        (("keys", "create", "k", "--scope", "event:emit", "--store", "nowhere"), "no store nowhere"),
        (("keys", "revoke", "00000000-0000-0000-0000-000000000000"), "no API key"),
        (("keys", "create", "k", "--scope", "everything"), "everything"),
        (("keys", "create", "k"), "--scope"),
    ],
)
async def test_what_cannot_be_is_said(operator: Operator, arguments: tuple[str, ...], words: str) -> None:
    code, complaint = await operator.refused(*arguments)
    assert code != 0
    assert words in complaint
    assert await operator.audit() == []


async def test_a_store_that_is_there_is_not_created_again(operator: Operator) -> None:
    await operator.does("stores", "create", "second")
    assert await operator.refused("stores", "create", "second") == (1, "Store second exists already.\n")


async def test_a_key_is_printed_once_works_and_is_revoked(operator: Operator) -> None:
    key = (await operator.does("keys", "create", "emitter", "--scope", "event:emit", "--expires-in-days", "1")).strip()
    async with operator.database.transaction() as connection:
        principal = await find_usable_key(connection, key)
    assert principal is not None
    assert (principal.scopes, principal.stores) == ({Scope.EVENT_EMIT}, {"*"})
    listed = await operator.does("keys", "list")
    assert key not in listed
    assert "event:emit" in listed
    assert "[" not in listed
    key_id = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", listed)
    assert key_id is not None
    assert "emitter" in await operator.does("keys", "revoke", key_id[0])
    async with operator.database.transaction() as connection:
        assert await find_usable_key(connection, key) is None
    assert [line["action"] for line in await operator.audit()] == ["create", "revoke"]
    assert key not in str(await operator.audit())


async def test_an_administrator_is_created_with_a_password_from_a_pipe(operator: Operator) -> None:
    await operator.does("admin", "create", "alex", "--scope", "subscription:read", given=f"{PASSWORD}\n")
    async with operator.database.transaction() as connection:
        found = await find_administrator(connection, username="alex")
    assert found is not None
    assert found.principal.scopes == {Scope.SUBSCRIPTION_READ}
    assert (await Passwords().verify(PASSWORD, found.password_hash))[0]
    assert "alex" in await operator.does("admin", "list")
    code, complaint = await operator.refused("admin", "create", "alex", given=f"{PASSWORD}\n")
    assert (code, "reset-password" in complaint) == (1, True)
    assert PASSWORD not in str(await operator.audit())


async def test_a_password_is_reset(operator: Operator) -> None:
    await operator.does("admin", "create", "alex", given=f"{PASSWORD}\n")
    await operator.does("admin", "reset-password", "alex", given="another good password\n")
    async with operator.database.transaction() as connection:
        found = await find_administrator(connection, username="alex")
    assert found is not None
    assert (await Passwords().verify("another good password", found.password_hash))[0]
    refused = await operator.refused("admin", "reset-password", "nobody", given=f"{PASSWORD}\n")
    assert refused == (1, "There is no administrator nobody.\n")


@pytest.mark.parametrize("password", ["", "short", "x" * 1025], ids=["none", "short", "endless"])
async def test_a_password_that_will_not_do_is_refused(operator: Operator, password: str) -> None:
    code, complaint = await operator.refused("admin", "create", "alex", given=f"{password}\n")
    assert (code, "12 to 1024 characters" in complaint) == (2, True)


async def test_a_database_that_is_not_there_or_empty_is_said(operator: Operator, tmp_path: Path) -> None:
    absent = Operator(operator.database, "postgresql://nobody@127.0.0.1:1/nowhere", tmp_path)
    code, complaint = await absent.refused("stores", "list")
    assert (code, "cannot be reached" in complaint) == (1, True)
    async with operator.database.transaction() as connection:
        await connection.execute(text("DROP TABLE subscription, store CASCADE"))
    code, complaint = await operator.refused("stores", "list")
    assert (code, "loyalty-webhooks migrate" in complaint) == (1, True)
