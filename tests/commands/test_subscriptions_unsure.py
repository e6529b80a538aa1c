"""`subscriptions apply` before a person who is asked, and when the store changes or the answer is lost meanwhile."""

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.commands.filed import CRM, HEAD, Filed
from tests.commands.running import ENVIRONMENT, PROGRAM


def at_a_terminal(
    command: list[str], directory: Path, environment: dict[str, str], *answers: Callable[[], str]
) -> tuple[int, str]:
    """Exit code and what a person sees who answers the questions, one after the other."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.execve(command[0], command, environment)
    seen, deadline, answered = b"", time.monotonic() + 60, 0
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
        if seen.count(b"[y/N]") > answered:
            os.write(terminal, answers[answered]().encode() + b"\n")
            answered += 1
    else:
        os.kill(pid, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return code, re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode().replace("\r\n", "\n")


def terminal_command(filed: Filed, *arguments: str) -> tuple[list[str], Path, dict[str, str]]:
    command = [str(PROGRAM), "subscriptions", *arguments, "--store", filed.shop.store]
    return command, filed.directory, ENVIRONMENT | filed.environment(TERM="xterm")


async def test_at_a_terminal_a_person_sees_the_changes_and_is_asked_again_if_the_store_has_changed_meanwhile(
    filed: Filed,
) -> None:
    await filed.shop.created(name="Old")
    filed.write(HEAD, CRM, "    hmacEnabled: true\n")
    loop = asyncio.get_running_loop()

    def agree_too_late() -> str:
        asyncio.run_coroutine_threadsafe(filed.shop.created(name="Newer"), loop).result(10)
        return "y"

    applying = terminal_command(filed, "apply", "s.yaml", "--prune")
    code, seen = await asyncio.to_thread(at_a_terminal, *applying, agree_too_late, lambda: "n")
    assert code == 2
    assert "+  CustomerRegistered  CRM  https://" in seen
    assert "1 to create, 1 to delete" in seen
    before, again, after = seen.partition("nothing was done. Making a new plan.")
    assert again
    assert ("Newer" in before, "Newer" in after) == (False, True)
    assert "1 to create, 2 to delete" in after
    assert "Nothing was done." in after
    assert sorted(row["name"] for row in await filed.rows()) == ["Newer", "Old"]

    code, seen = await asyncio.to_thread(at_a_terminal, *applying, lambda: "y")
    assert code == 0, seen
    assert "1 created, 2 deleted" in seen
    assert re.search(r"CustomerRegistered  CRM  [0-9a-f-]{36}  whsec_", seen)
    assert [row["name"] for row in await filed.rows()] == ["CRM"]


@contextlib.asynccontextmanager
async def losing_answers(root: str, after: int) -> AsyncIterator[str]:
    """The root of an API whose answers are lost, from the connection of this number on."""
    host, port = root.removeprefix("http://").split(":")
    connections = 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        lost = connections > after
        there, thither = await asyncio.open_connection(host, int(port))
        forth = asyncio.create_task(pump(reader, thither))
        back = asyncio.create_task(there.read(1) if lost else pump(there, writer))
        await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (forth, back):
            task.cancel()
        for each in (writer, thither):
            each.close()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(65536):
            sink.write(part)

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_lost_answer_leaves_nobody_in_the_belief_that_nothing_was_done(filed: Filed) -> None:
    filed.write(HEAD, CRM)
    async with losing_answers(filed.root, after=1) as root:
        ended = await filed.run("apply", "s.yaml", LOYALTY_WEBHOOKS_API=root)
    assert (ended.code, ended.output) == (2, "")
    assert "The outcome is unknown" in ended.errors
    assert len(await filed.rows()) == 1
    async with losing_answers(filed.root, after=0) as root:
        looking = await filed.run("apply", "s.yaml", LOYALTY_WEBHOOKS_API=root)
    assert looking.code == 2
    assert "is unknown" not in looking.errors


async def test_a_closed_standard_output_does_not_lose_new_signing_keys(filed: Filed) -> None:
    filed.write(HEAD, CRM, "    hmacEnabled: true\n")
    command, directory, environment = terminal_command(filed, "apply", "s.yaml", "--signing-keys", "keys.json")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        applying = await asyncio.create_subprocess_exec(
            *command, cwd=directory, env=environment, stdin=DEVNULL, stdout=writing, stderr=DEVNULL
        )
    finally:
        os.close(writing)
    assert await asyncio.wait_for(applying.wait(), 60) != 0
    [row] = await filed.rows()
    [key] = json.loads((directory / "keys.json").read_text())
    assert (key["webhookSubscriptionId"], key["hmacSecret"][:6]) == (row["webhookSubscriptionId"], "whsec_")
