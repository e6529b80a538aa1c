"""`migrate` says what it did, and what is wrong when it could not."""

from pathlib import Path

from cryptography.fernet import Fernet

from storage.revisions import head
from tests.commands.running import run, run_process
from tests.databases import empty_database


async def test_an_empty_database_is_brought_to_head_and_stays_there(postgres: str, tmp_path: Path) -> None:
    async with empty_database() as url:
        environment = {"DATABASE_URL": url, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
        first = await run_process("migrate", directory=tmp_path, environment=environment)
        second = await run("migrate", directory=tmp_path, environment=environment)
    assert (first.code, second.code) == (0, 0), first.errors + second.errors
    assert head() in first.output
    assert head() in second.output
    assert first.output != second.output


async def test_what_it_would_do_is_printed_and_not_done(postgres: str, tmp_path: Path) -> None:
    async with empty_database() as url:
        environment = {"DATABASE_URL": url, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
        before = await run("migrate", "--sql", directory=tmp_path, environment=environment)
        await run("migrate", directory=tmp_path, environment=environment)
        after = await run("migrate", "--sql", directory=tmp_path, environment=environment)
    assert "CREATE TABLE event (" in before.output, before.errors
    assert f"VALUES ('{head()}')" in before.output or f"version_num='{head()}'" in before.output
    assert after.output == "-- nothing to do\n"


async def test_missing_settings_are_named(tmp_path: Path) -> None:
    ended = await run("migrate", directory=tmp_path, environment={"DATABASE_URL": "postgresql://h/d"})
    assert (ended.code, "ENCRYPTION_KEYS: is " in ended.errors) == (2, True)


async def test_wrong_settings_are_named_without_their_values(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://u:hidden-1@h/d", "ENCRYPTION_KEYS": "hidden-2"}
    ended = await run("migrate", directory=tmp_path, environment=environment)
    assert ended.code == 2
    assert "ENCRYPTION_KEYS: each key is 32 bytes" in ended.errors
    assert "hidden" not in ended.errors + ended.output


async def test_a_database_that_is_not_there_is_said_to_be_so_without_its_password(tmp_path: Path) -> None:
    key = Fernet.generate_key().decode()
    environment = {"DATABASE_URL": "postgresql://somebody:hidden@127.0.0.1:9/none", "ENCRYPTION_KEYS": key}
    ended = await run("migrate", directory=tmp_path, environment=environment)
    assert ended.code == 1
    assert "cannot be " in ended.errors
    assert "hidden" not in ended.errors + ended.output
    assert "Traceback" not in ended.errors


async def test_a_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": "mysql://u:hidden@h/d", "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    ended = await run("migrate", directory=tmp_path, environment=environment)
    assert ended.code == 2
    assert "DATABASE_URL: does not start with postgresql://" in ended.errors


async def test_a_new_encryption_key_is_one(tmp_path: Path) -> None:
    ended = await run("new-encryption-key", directory=tmp_path)
    assert ended.code == 0
    Fernet(ended.output.strip())
