"""What a sender leaves behind, on the event loop the worker runs on and on Python's own: nothing."""

import asyncio
import gc
import os
import select
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from domain.delivery.failure_kinds import FailureKind
from sending.http import pool as connections
from sending.http.client import OutgoingRequest
from sending.http.connection import Connection, Response
from sending.http.pool import Connections
from tests.receiver import (
    Authority,
    Exchange,
    Receiver,
    Reply,
    close_before_answer,
    hang,
    raw,
    reset_before_answer,
    response,
    status,
)
from tests.sending.http.sending import STRICT, local_sender, request_to, send

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Loop] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
AUTHORITY = Authority()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs a coroutine on each kind of loop; whatever the loop has to complain about fails the test."""
    complaints: list[dict[str, Any]] = []

    async def watched(work: Awaitable[Any]) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await work

    def run(work: Awaitable[Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(watched(work))

    yield run
    assert complaints == []


@contextmanager
def without_collector() -> Iterator[None]:
    gc.freeze()  # for good, so that `kept` looks at new objects alone; a collection of the older costs 0.1 s
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that the event loop brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what


def kept() -> list[object]:
    """What of deliveries is still in memory."""
    return [thing for thing in gc.get_objects() if type(thing) in (Connection, Response, OutgoingRequest)]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


ANSWERS: dict[str, Reply] = {
    "answers": status(),
    "answers and closes": raw(response(), close=True),
    "closes": close_before_answer(),
    "resets": reset_before_answer(),
    "is malformed": raw(b"HTTP/1.1 OK\r\n\r\n"),
    "says too much": raw(response() + response()),
    "hangs": hang(),
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("case", ANSWERS)
def test_nothing_is_kept_of_an_exchange_whose_receiver(case: str, tls: bool, run: Any) -> None:
    async def work() -> None:
        context = AUTHORITY.server_context("localhost") if tls else None
        async with Receiver() as receiver:
            await send(receiver.url())  # the loop opens some of its own for the first
        open_before = descriptors()
        async with Receiver(tls=context) as receiver:
            timeout_seconds = 0.3 if case == "hangs" else 30.0
            async with local_sender(ca_bundle=AUTHORITY.ca_bundle, timeout_seconds=timeout_seconds) as sender:
                receiver.script(*[ANSWERS[case]] * 2)
                for _ in range(2):
                    await sender.send(request_to(receiver.url(host="localhost")))
                if case != "answers":
                    await until(lambda: not kept(), "also while the sender goes on")
            await until(lambda: not kept(), "after its end")
        await until(lambda: descriptors() <= open_before, "no socket is open")

    with without_collector():
        run(work())


def test_nothing_is_kept_of_a_request_that_finds_no_receiver(run: Any) -> None:
    async def work() -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.transport.abort()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        cutting = server.sockets[0].getsockname()[1]
        failures = []
        async with Receiver(tls=AUTHORITY.server_context("localhost")) as untrusted:
            open_before = descriptors()
            async with local_sender() as sender:
                for url in (
                    "http://127.0.0.1:1/",
                    "http://localhost:1/",
                    "http://name.invalid/",
                    f"https://127.0.0.1:{cutting}/",
                    untrusted.url(host="localhost"),
                ):
                    failures.append((await sender.send(request_to(url))).failure)
                    await until(lambda: not kept(), url)
            async with local_sender(rules=STRICT) as sender:
                failures.append((await sender.send(request_to("http://localhost:1/"))).failure)
            await until(lambda: not kept() and descriptors() <= open_before, "the end")
        server.close()
        assert failures == [
            FailureKind.connect,
            FailureKind.connect,
            FailureKind.dns,
            FailureKind.tls,
            FailureKind.tls,
            FailureKind.blocked,
        ]

    with without_collector():
        run(work())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_requests_cancelled_at_any_moment_leave_no_socket(tls: bool, run: Any) -> None:
    async def work() -> None:
        context = AUTHORITY.server_context("localhost") if tls else None
        async with Receiver(tls=context) as receiver, local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
            request = request_to(receiver.url(host="localhost"))
            await sender.send(request)
            open_before = descriptors()
            for turns in range(60):
                receiver.otherwise = raw(response(), close=True)  # each request needs a connection of its own
                task = asyncio.create_task(sender.send(request))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await until(lambda: descriptors() <= open_before, "no socket is open")

    with without_collector():
        run(work())


def test_a_receiver_that_refuses_before_it_reads_is_understood(run: Any) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(503, b"busy", headers=(("Retry-After", "7"), ("Connection", "close"))))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with local_sender() as sender:
            for _ in range(20):
                result = await sender.send(request_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
                assert (result.status_code, result.failure, result.retry_after_seconds) == (503, None, 7)
        server.close()

    run(work())


def test_a_receiver_that_answers_and_never_reads_the_rest_keeps_no_connection(run: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413))
        writer.transport.pause_reading()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1024)
        async with local_sender() as sender:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            assert (await sender.send(request_to(url, b"x" * (32 << 20)))).status_code == 413
            await until(lambda: not kept(), "the sender lets go")
        server.close()

    with without_collector():
        run(work())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_no_request_waits_behind_the_rest_of_one_that_was_answered_early(tls: bool, run: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413))

    async def work() -> None:
        context = AUTHORITY.server_context("localhost") if tls else None
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1024, ssl=context)
        url = f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}/"
        async with local_sender(ca_bundle=AUTHORITY.ca_bundle, timeout_seconds=10) as sender:
            early = await sender.send(request_to(url, b"x" * (32 << 20)))
            following = await sender.send(request_to(url))
        server.close()
        assert (early.status_code, early.failure) == (following.status_code, following.failure) == (413, None)

    run(work())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_what_a_receiver_says_behind_its_answer_is_nobodys_answer(tls: bool, run: Any) -> None:
    async def work() -> None:
        answered = asyncio.Event()

        async def answer_twice(exchange: Exchange) -> None:
            await exchange.write(response())
            await answered.wait()
            await exchange.write(response(500))

        context = AUTHORITY.server_context("localhost") if tls else None
        async with Receiver(tls=context) as receiver, local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
            receiver.script(answer_twice)
            assert (await sender.send(request_to(receiver.url(host="localhost")))).status_code == 200
            answered.set()
            await until(lambda: not sender._connections._open, "the sender ends the connection")
            assert (await sender.send(request_to(receiver.url(host="localhost")))).status_code == 200
            assert receiver.connections == 2

    run(work())


def test_a_response_before_the_handshake_is_none(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Connections._open_socket

    async def connect_and_hear(*arguments: Any) -> socket.socket:
        opened = await connect(*arguments)
        await until(lambda: bool(select.select([opened], [], [], 0)[0]), "the response")
        return opened

    def answer_first(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.sendall(response())
        with suppress(OSError), AUTHORITY.server_context("localhost").wrap_socket(connection, server_side=True) as tls:
            tls.recv(1000)

    monkeypatch.setattr(Connections, "_open_socket", connect_and_hear)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=answer_first, args=(listener,))
        receiver.start()
        result = run(send(f"https://localhost:{listener.getsockname()[1]}/", ca_bundle=AUTHORITY.ca_bundle))
        receiver.join()
    assert (result.status_code, result.failure) == (None, FailureKind.tls)


def test_a_receiver_that_resets_right_after_the_handshake_is_no_timeout(run: Any) -> None:
    async def work() -> None:
        context = AUTHORITY.server_context("localhost")

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        async with local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
            results = [await sender.send(request_to(url)) for _ in range(20)]
        server.close()
        assert {result.failure for result in results} <= {FailureKind.reset, FailureKind.tls}

    run(work())


@pytest.mark.parametrize("goodbye", [True, False], ids=["with a goodbye", "without one"])
def test_a_body_over_tls_ends_with_the_connection(goodbye: bool, run: Any) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.write(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        if not goodbye:
            with socket.socket(fileno=os.dup(exchange.writer.get_extra_info("socket").fileno())) as connection:
                connection.shutdown(socket.SHUT_WR)
            await exchange.until_closed()

    async def work() -> None:
        async with Receiver(tls=AUTHORITY.server_context("localhost")) as receiver:
            receiver.script(answer)
            async with local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
                result = await sender.send(request_to(receiver.url(host="localhost")))
        assert (result.status_code, result.failure, result.excerpt) == (200, None, "whole")

    run(work())


def test_closing_ends_connections_that_are_just_being_made(run: Any) -> None:
    async def work() -> None:
        for turns in range(40):
            async with Receiver(tls=AUTHORITY.server_context("localhost")) as receiver:
                receiver.otherwise = hang()
                open_before = descriptors()
                async with local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
                    task = asyncio.create_task(sender.send(request_to(receiver.url(host="localhost"))))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                result = await asyncio.wait_for(task, 10)
                assert result.status_code is None
                await until(lambda: descriptors() <= open_before, "no socket is open")  # noqa: B023

    run(work())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("deaf", [False, True], ids=["listens", "listens no more"])
def test_connections_that_nobody_needs_are_let_go_of_also_when_the_receiver(
    deaf: bool, tls: bool, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "_TLS_GOODBYE_SECONDS", 0.1)

    async def answer(exchange: Exchange) -> None:
        await exchange.write(response())
        if deaf:
            exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that also reads
            await asyncio.Event().wait()

    async def work() -> None:
        context = AUTHORITY.server_context("localhost") if tls else None
        async with Receiver(tls=context) as receiver, local_sender(ca_bundle=AUTHORITY.ca_bundle) as sender:
            receiver.otherwise = answer
            request = request_to(receiver.url(host="localhost"))
            results = await asyncio.gather(*[sender.send(request) for _ in range(20)])
            assert {result.status_code for result in results} == {200}
            assert receiver.connections == 20
            del results
            await until(lambda: len(kept()) == 1, "the request of this test alone")
            receiver.otherwise = status()
            assert (await sender.send(request)).status_code == 200
            assert receiver.connections == 21

    with without_collector():
        run(work())


def test_idle_connections_that_the_receiver_ends_are_not_used_again(run: Any) -> None:
    gone: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        gone.append(exchange)
        await exchange.write(response())

    async def work() -> None:
        async with Receiver() as receiver, local_sender() as sender:
            receiver.otherwise = answer
            for round_ in range(1, 4):
                results = await asyncio.gather(*[sender.send(request_to(receiver.url())) for _ in range(5)])
                assert {result.status_code for result in results} == {200}
                assert receiver.connections == 5 * round_
                for exchange in gone:
                    exchange.reset()
                gone.clear()
                await until(
                    lambda: not any(one.reusable for one in kept() if isinstance(one, Connection)), "it is seen"
                )

    run(work())


def test_idle_connections_to_many_hosts_are_not_all_looked_at_for_each(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.4)
    looks = 0
    look = Connections._close_idle

    def counted(self: Connections) -> None:
        nonlocal looks
        looks += 1
        look(self)

    monkeypatch.setattr(Connections, "_close_idle", counted)

    async def work() -> None:
        async with Receiver(host="0.0.0.0") as receiver, local_sender() as sender:
            await sender.send(request_to(receiver.url(host="127.0.0.1")))
            open_before = descriptors()
            for n in range(200):
                await sender.send(request_to(receiver.url(host=f"127.0.0.{n + 1}")))
            await until(lambda: descriptors() <= open_before + 20, "they are let go of")
            assert receiver.connections == 200

    run(work())
    assert looks < 100
