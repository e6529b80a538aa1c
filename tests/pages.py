"""The commands that pages show, typed into a shell as they stand there, and what they print."""

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local.ports import hold_free
from tests.commands.running import lines_until
from tests.house import ROOT

README = (ROOT / "README.md").read_text()
PORT = "9000"  # of the receiver in the tour
PATIENCE_SECONDS = 60
END = "@@@ end of block"

# What differs from run to run, in the order in which it is looked for.
VARYING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"whsec_[A-Za-z0-9+/]{43}=", "KEY"),
    (r"\b[0-9a-f]{64}\b", "HEX"),
    (r"v1,[A-Za-z0-9+/]{43}=", "SIGNATURE"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "INSTANT"),
    (r"\b\d\d:\d\d:\d\d\.\d+", "TIME"),
    (r"\b1\d{9}\b", "SECONDS"),
)


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block below a heading of the README."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def comparable(text: str, port: str = PORT) -> list[str]:
    """Its lines without what differs from run to run, without trailing and without empty ones."""
    text = text.replace(f":{port}", f":{PORT}")
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def free_port() -> str:
    """A port that no other process gets by asking for any: it is below their range."""
    with hold_free() as held:
        return str(held.getsockname()[1])


class Shell:
    """A shell that runs one block of a page after the other, in a directory where `.venv` and a stack are."""

    def __init__(self, shell: Process, port: str) -> None:
        self.shell = shell
        self._port = port

    def type(self, block: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(block.replace(PORT, self._port).encode())

    async def run(self, block: str, within: float = PATIENCE_SECONDS) -> list[str]:
        """What the block prints, to its end."""
        self.type(f"{block}\necho; echo '{END}'\n")
        return comparable("\n".join((await lines_until(self.shell, END, within))[:-1]), self._port)

    async def wait_for(self, last_line: str) -> list[str]:
        """What a command that goes on running prints, up to a line."""
        return comparable("\n".join(await lines_until(self.shell, last_line, PATIENCE_SECONDS)), self._port)


@asynccontextmanager
async def typing_shell(directory: Path, port: str) -> AsyncIterator[Shell]:
    shell = await asyncio.create_subprocess_exec(
        "bash", "--norc", cwd=directory, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    try:
        yield Shell(shell, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)  # what it started in the background too
        await shell.wait()
