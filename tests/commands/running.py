"""Runs `loyalty-webhooks`: in this process, which saves the second that starting one takes, or as one of its own."""

import asyncio
import os
import resource
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from typer.testing import CliRunner

import cli
from commands.configuration import OPEN_FILES
from tests.deadlines import eventually

PROGRAM = Path(sys.executable).with_name("loyalty-webhooks")
HALT = 4711
"""Key of an advisory lock."""

# Wide enough that no table breaks a word which a test looks for.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "200", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str


def few_descriptors() -> None:
    """Lower this process's soft limit of open files to the usual 1,024."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def has_raised_descriptors(pid: int) -> bool:
    """Return True if a process that began with few descriptors has raised its limit as far as wanted and allowed."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    return soft == (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard))


async def start(*arguments: str, directory: Path, environment: dict[str, str] | None = None) -> Process:
    """The command, under way."""
    return await asyncio.create_subprocess_exec(
        PROGRAM,
        *arguments,
        cwd=directory,
        env=ENVIRONMENT | (environment or {}),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=few_descriptors,
    )


async def run(
    *arguments: str, directory: Path, environment: dict[str, str] | None = None, standard_input: bytes = b""
) -> Ended:
    """Run the command to its end in a thread of this process. `directory` is this process's own meanwhile."""
    environment = ENVIRONMENT | (environment or {})
    unset = dict.fromkeys(os.environ.keys() - environment.keys())
    before = Path.cwd()
    os.chdir(directory)
    try:
        result = await asyncio.to_thread(
            CliRunner().invoke, cli.command_line(), arguments, input=standard_input, env=unset | environment
        )
    finally:
        os.chdir(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


async def run_process(*arguments: str, directory: Path, environment: dict[str, str] | None = None) -> Ended:
    """Run the command to its end as a process."""
    process = await start(*arguments, directory=directory, environment=environment)
    try:
        async with asyncio.timeout(60):
            output, errors = await process.communicate(b"")
    except BaseException:
        process.kill()
        raise
    return Ended(process.returncode or 0, output.decode(), errors.decode())


@asynccontextmanager
async def running(*arguments: str, directory: Path) -> AsyncIterator[Process]:
    """The command, under way as long as the block lasts; killed if it has not ended by then."""
    process = await start(*arguments, directory=directory)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def halting(database_url: str, table: str, *, after: int) -> AsyncIterator[None]:
    """Make changes of the table wait after so many rows, until the block ends; returns when no command is connected,
    so that what a killed one had begun is over."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            f"""
            CREATE SEQUENCE changed_rows;
            CREATE FUNCTION halt() RETURNS trigger AS $$
            BEGIN
                IF nextval('changed_rows') > {after} THEN PERFORM pg_advisory_xact_lock({HALT}); END IF;
                RETURN NEW;
            END $$ LANGUAGE plpgsql;
            CREATE TRIGGER halt BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION halt();
            SELECT pg_advisory_lock({HALT});
            """
        )
        yield
        await connection.execute(f"SELECT pg_advisory_unlock({HALT})")

        async def alone() -> bool:
            query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
            return await connection.fetchval(query, "loyalty-webhooks command") is None

        await eventually(alone, 60, "no command is connected")
    finally:
        try:
            await connection.execute("SELECT pg_advisory_unlock_all()")  # else who waits for it would hold up the DROP
            await connection.execute(f"DROP TRIGGER halt ON {table}; DROP FUNCTION halt; DROP SEQUENCE changed_rows")
        finally:
            await connection.close()


async def lines_until(process: Process, wanted: str, timeout_seconds: float = 30) -> list[str]:
    """Lines of its output up to the first that holds `wanted`; fails when the output ends or the time is over."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(timeout_seconds):
        while not lines or wanted not in lines[-1]:
            line = await process.stdout.readline()
            assert line, f"ended without {wanted!r}: {lines}"
            lines.append(line.decode().rstrip("\n"))
    return lines
