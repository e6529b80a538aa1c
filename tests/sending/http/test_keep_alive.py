"""Idle connections: how long they are used again, what a closed one costs, and how many there may be."""

import asyncio
import re
import resource
import subprocess
import sys
from contextlib import AsyncExitStack, suppress

import pytest

from commands.configuration import raise_descriptor_limit
from domain.delivery.failure_kinds import FailureKind
from sending.http import pool
from sending.http.pool import SENT_AGAIN
from tests.house import ROOT
from tests.receiver import (
    Authority,
    Receiver,
    after,
    close_before_answer,
    raw,
    reset_before_answer,
    reset_mid_response,
    status,
)
from tests.sending.http.sending import local_sender, request_to

AUTHORITY = Authority()
SECONDS = (pool.CONNECT_SECONDS, pool.KEEP_ALIVE_SECONDS, pool.KEEP_ALIVE_MAX_SECONDS, pool.SENT_AGAIN_SECONDS)
"""As they are in earnest: fixtures make some of them longer."""


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("end", [close_before_answer(), reset_before_answer()], ids=["closes", "resets"])
async def test_a_reused_connection_that_ends_without_an_answer_is_replaced_once(end: object, tls: bool) -> None:
    context = AUTHORITY.server_context("localhost") if tls else None
    async with Receiver(tls=context) as receiver, local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
        request = request_to(receiver.url(host="localhost"), headers=(("webhook-id", "one"),))
        receiver.script(status(), end, status(201), status(), end, end)  # type: ignore[arg-type]  # replies
        assert (await sender.send(request)).note == ""
        replaced = await sender.send(request)
        assert (replaced.status_code, replaced.failure, replaced.stored_detail) == (201, None, f"Odd: {SENT_AGAIN}")
        assert len(receiver.requests) == 3
        assert {one.header("webhook-id") for one in receiver.requests} == {"one"}
        assert (await sender.send(request)).status_code == 200
        failed = await sender.send(request)
        assert (failed.status_code, failed.failure) == (None, FailureKind.reset)
        assert SENT_AGAIN in str(failed.stored_detail)
        assert len(receiver.requests) == 6


def test_the_seconds_of_connections_are_those_of_the_pages() -> None:
    """docs/limits.md has them."""
    assert (*SECONDS, pool.IDLE_SHARE) == (5, 15, 60, 1, 1 / 4)


async def test_the_connection_of_a_repeat_is_used_again() -> None:
    async with Receiver() as receiver, local_sender() as sender:
        receiver.script(status(), close_before_answer())
        notes = [(await sender.send(request_to(receiver.url()))).note for _ in range(3)]
        assert notes == ["", f"Odd: {SENT_AGAIN}", ""]
        assert receiver.connections == 2


@pytest.mark.parametrize("case", ["a new connection", "a response begun", "bytes that are no response", "a late close"])
async def test_a_request_is_not_sent_again_on(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "a late close":
        monkeypatch.setattr(pool, "SENT_AGAIN_SECONDS", 0.1)
    async with Receiver() as receiver, local_sender() as sender:
        if case != "a new connection":
            await sender.send(request_to(receiver.url()))
        receiver.script(
            {
                "a new connection": close_before_answer(),
                "a response begun": reset_mid_response(),
                "bytes that are no response": raw(b"x", close=True),
                "a late close": after(0.3, close_before_answer()),
            }[case]
        )
        before = len(receiver.requests)
        result = await sender.send(request_to(receiver.url()))
        assert result.failure in (FailureKind.reset, FailureKind.invalid_response)
        assert SENT_AGAIN not in str(result.stored_detail)
        assert len(receiver.requests) == before + 1


@pytest.mark.parametrize(
    ("header", "reused"),
    [
        (None, False),
        ("timeout=0", False),
        ("timeout=60, max=100", True),
        ("max=5, Timeout=99999999", True),
        ("timeout=never", False),
    ],
)
async def test_a_connection_is_idle_as_long_as_its_receiver_announces(
    header: str | None, reused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "KEEP_ALIVE_SECONDS", 0.05)
    async with Receiver() as receiver, local_sender() as sender:
        receiver.otherwise = status(headers=(("Keep-Alive", header),) if header else ())
        for _ in range(2):
            assert (await sender.send(request_to(receiver.url()))).status_code == 200
            await asyncio.sleep(0.2)
        assert receiver.connections == (1 if reused else 2)


async def test_an_announced_idle_time_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEP_ALIVE_MAX_SECONDS", 0.05)
    async with Receiver() as receiver, local_sender() as sender:
        receiver.otherwise = status(headers=(("Keep-Alive", "timeout=600"),))
        for _ in range(2):
            await sender.send(request_to(receiver.url()))
            await asyncio.sleep(0.2)
        assert receiver.connections == 2


async def test_the_idle_connection_next_to_expire_makes_way_for_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SHARE", 2 / resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    async with AsyncExitStack() as opened:
        receivers = [await opened.enter_async_context(Receiver()) for _ in range(3)]
        sender = await opened.enter_async_context(local_sender())
        for receiver in [*receivers, *reversed(receivers)]:
            assert (await sender.send(request_to(receiver.url()))).status_code == 200
        assert [receiver.connections for receiver in receivers] == [2, 1, 1]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request of a connection: 2,000 of the recording receivers would take half a minute."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


SEND_TO_MANY = """
import asyncio, collections, sys
import uvloop
from commands.configuration import raise_descriptor_limit
from tests.sending.http.sending import local_sender, request_to

async def main():
    slots, ports = asyncio.Semaphore(512), sys.stdin.read().split()
    async with local_sender(timeout_seconds=60) as sender:
        async def one(port):
            async with slots:
                return (await sender.send(request_to(f"http://127.0.0.1:{port}/"))).failure
        for _ in range(2):
            print(*collections.Counter(await asyncio.gather(*[one(port) for port in ports])).items())

if "raise" in sys.argv:
    raise_descriptor_limit()
uvloop.run(main())
"""


@pytest.mark.parametrize("raised", ["raise", "leave"])
async def test_two_thousand_receivers_cost_no_descriptor_too_many(raised: str) -> None:
    raise_descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 6000:
        pytest.skip("2,000 receivers need more descriptors than this process may have")
    async with AsyncExitStack() as listening:
        ports = []
        for _ in range(2000):
            server = await listening.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
            ports.append(server.sockets[0].getsockname()[1])
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SEND_TO_MANY,
            raised,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard)),
        )
        output, _ = await asyncio.wait_for(program.communicate(" ".join(map(str, ports)).encode()), 120)
        assert output.decode().split("\n") == ["(None, 2000)", "(None, 2000)", ""]


@pytest.mark.parametrize(("soft", "raised"), [(512, 1024), (2048, 2048)])
def test_a_process_raises_its_soft_limit_as_far_as_wanted_and_never_lowers_it(
    monkeypatch: pytest.MonkeyPatch, soft: int, raised: int
) -> None:
    monkeypatch.setattr("commands.configuration.OPEN_FILES", 1024)  # below any hard limit
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
