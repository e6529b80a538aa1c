"""Runs `loyalty-webhooks` as a person does: as a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("loyalty-webhooks")
# Wide enough that no table breaks a word which a test looks for.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "200", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str


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
    )


async def run(
    *arguments: str,
    directory: Path,
    environment: dict[str, str] | None = None,
    standard_input: bytes = b"",
    timeout_seconds: float = 60,
) -> Ended:
    """Run the command to its end; fails when that takes too long."""
    process = await start(*arguments, directory=directory, environment=environment)
    try:
        async with asyncio.timeout(timeout_seconds):
            output, errors = await process.communicate(standard_input)
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
