"""Bounds on heads, unfinished requests and connections, over real sockets. No database is needed for them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from telemetry.connections import MOST_HEAD_BYTES, MOST_HEADERS, MOST_PART_BYTES, MOST_PIPELINED
from tests.api.installation import Installation, installation
from tests.api.serving import serving

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: api\r\n"
LOGIN = b"POST /api/admin/login_check HTTP/1.1\r\nHost: api\r\n"
ANSWERED_EARLY = (b"POST /nothing HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\n\r\n{", b"}")
"""A request that is answered before its body has ended, and the rest of its body."""
FLOOD_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 20
SHORT_SECONDS = 0.5
"""A time-out of a test."""
TOO_LARGE = {
    "a target": ({"target_bytes": MOST_PART_BYTES}, {"target_bytes": MOST_PART_BYTES + 1}, 414),
    "a header": ({"header_bytes": MOST_PART_BYTES}, {"header_bytes": MOST_PART_BYTES + 1}, 431),
    "the number of headers": ({"headers": MOST_HEADERS}, {"headers": MOST_HEADERS + 1}, 431),
    "all headers": ({"total_bytes": MOST_HEAD_BYTES}, {"total_bytes": MOST_HEAD_BYTES + 1}, 431),
}
"""The largest that is allowed, what is too large, and its status."""
ENDLESS = {
    "an endless target": (b"GET /", b"a" * 16384),
    "an endless header": (ALIVE + b"a: ", b"a" * 16384),
    "endless headers": (ALIVE, b"a: b\r\n" * 2000),
    "endless line ends before the request": (b"", b"\r\n" * 8192),
    "an endless chunk extension": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 16384),
    "endless trailers": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", b"a: b\r\n" * 2000),
}
"""A beginning, and what follows without end."""


@pytest.fixture(scope="module")
async def installed() -> AsyncIterator[Installation]:
    async with installation(NOWHERE) as started:
        yield started


@dataclass
class Peer:
    """A client at the level of bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next response."""
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def closed(self) -> bytes:
        """What still comes until the server closes the connection. Fails if it does not."""
        async with asyncio.timeout(ANSWER_SECONDS):
            with suppress(ConnectionError):
                return await self.reader.read()
        return b""


@asynccontextmanager
async def peer(root: str) -> AsyncIterator[Peer]:
    where = urlsplit(root)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    yield Peer(reader, writer)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def closed(installed: Installation, reason: str) -> float:
    """How often a connection was closed for this reason, by the metrics."""
    registry = installed.app.state.metrics.registry
    return registry.get_sample_value("loyalty_webhooks_connections_closed_total", {"reason": reason}) or 0.0


def head_of(target_bytes: int = 0, headers: int = 1, header_bytes: int = 0, total_bytes: int = 0) -> bytes:
    """A request with this much of something, and little of everything else."""
    target = "/healthz" + (f"?{'x' * (target_bytes - len('/healthz?'))}" if target_bytes else "")
    fields = {"host": "api"}
    if header_bytes:
        fields["x"] = "y" * (header_bytes - 1)
    while total_bytes > (used := sum(len(name) + len(value) for name, value in fields.items())):
        name = f"x{len(fields)}"
        fields[name] = "y" * (min(MOST_PART_BYTES, total_bytes - used) - len(name))
    fields |= {f"n{number}": "" for number in range(headers - len(fields))}
    lines = [f"GET {target} HTTP/1.1", *(f"{name}:{value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class TestHeads:
    @pytest.mark.parametrize(("allowed", "too_much", "status"), TOO_LARGE.values(), ids=TOO_LARGE)
    async def test_a_head_above_a_bound_is_refused_and_the_largest_allowed_is_not(
        self, installed: Installation, allowed: dict[str, int], too_much: dict[str, int], status: int
    ) -> None:
        before = closed(installed, "head_size")
        async with serving(installed.app) as root, peer(root) as client:
            await client.send(head_of(**allowed))
            assert (await client.answer())[0] == 200
            await client.send(head_of(**too_much))
            refused, body = await client.answer()
            assert (refused, json.loads(body)["code"]) == (status, status)
            assert await client.closed() == b""
        assert closed(installed, "head_size") == before + 1

    @pytest.mark.parametrize(("beginning", "more"), ENDLESS.values(), ids=ENDLESS)
    async def test_a_part_without_end_closes_the_connection_and_others_are_answered(
        self, installed: Installation, beginning: bytes, more: bytes
    ) -> None:
        async with (
            serving(installed.app) as root,
            peer(root) as client,
            httpx.AsyncClient(base_url=root, timeout=30) as other,
        ):
            await client.send(beginning)
            sent = 0
            closed = asyncio.create_task(client.closed())
            while not closed.done() and sent < FLOOD_BYTES:
                await client.send(more)
                sent += len(more)
                await asyncio.sleep(0)
            assert sent < FLOOD_BYTES
            assert (await other.get("/healthz")).status_code == 200

    async def test_requests_ahead_of_their_responses_are_answered_up_to_a_bound(self, installed: Installation) -> None:
        async with serving(installed.app) as root, peer(root) as client:
            await client.send((ALIVE + b"\r\n") * MOST_PIPELINED)
            assert [(await client.answer())[0] for _ in range(MOST_PIPELINED)] == [200] * MOST_PIPELINED
            await client.send((ALIVE + b"\r\n") * 1000)
            assert (await client.closed()).count(b"HTTP/1.1 200") < 1000


class TestTimes:
    @pytest.mark.parametrize(
        ("sent", "reason", "answered"),
        [
            (b"", "head_time", False),
            (ALIVE, "head_time", True),
            (LOGIN + b"Content-Length: 100\r\n\r\n{", "body_time", True),
            (LOGIN + b"Content-Length: 1000000\r\n\r\n{", "body_time", False),
        ],
        ids=["nothing", "half a head", "half a body", "half a body that is refused already"],
    )
    async def test_a_request_that_stays_unfinished_is_ended(
        self, installed: Installation, sent: bytes, reason: str, answered: bool
    ) -> None:
        before = closed(installed, reason)
        async with serving(installed.app, seconds=SHORT_SECONDS) as root, peer(root) as client:
            await client.send(sent)
            assert (b"HTTP/1.1 408 " in await client.closed()) is answered
        assert closed(installed, reason) == before + 1

    @pytest.mark.parametrize(
        ("beginning", "more"), [(ALIVE, b"a"), (ALIVE + b"\r\n", b"\r\n")], ids=["head", "line ends after a request"]
    )
    async def test_a_head_that_trickles_is_ended_all_the_same(
        self, installed: Installation, beginning: bytes, more: bytes
    ) -> None:
        before = closed(installed, "head_time")
        async with serving(installed.app, seconds=SHORT_SECONDS) as root, peer(root) as client:
            await client.send(beginning)
            ended = asyncio.create_task(client.closed())
            while not ended.done():
                await client.send(more)
                await asyncio.sleep(SHORT_SECONDS / 10)
            await ended
        assert closed(installed, "head_time") == before + 1

    async def test_a_connection_whose_last_body_ended_after_its_response_is_closed_as_an_idle_one(
        self, installed: Installation
    ) -> None:
        async with serving(installed.app, idle_seconds=1) as root, peer(root) as client:
            for _ in range(2):
                beginning, end = ANSWERED_EARLY
                await client.send(beginning)
                assert (await client.answer())[0] == 404
                await client.send(end)
            assert await client.closed() == b""

    async def test_a_response_that_nobody_reads_is_given_up(self, installed: Installation) -> None:
        before = closed(installed, "response_time")
        async with serving(installed.app, seconds=SHORT_SECONDS) as root, peer(root) as client:
            await client.send(b"GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n" * MOST_PIPELINED)
            async with asyncio.timeout(ANSWER_SECONDS):
                while closed(installed, "response_time") == before:
                    await asyncio.sleep(SHORT_SECONDS / 10)

    async def test_a_slow_body_and_an_idle_connection_are_not(self, installed: Installation) -> None:
        async with serving(installed.app, seconds=6 * SHORT_SECONDS, idle_seconds=60) as root, peer(root) as client:
            await client.send(LOGIN + b"Content-Length: 8\r\n\r\n")
            for _ in range(8):
                await asyncio.sleep(SHORT_SECONDS)
                await client.send(b"x")
            assert (await client.answer())[0] == 400
            await asyncio.sleep(7 * SHORT_SECONDS)
            await client.send(ALIVE + b"\r\n")
            assert (await client.answer())[0] == 200


async def test_connections_above_the_limit_get_503_with_one_log_line_and_a_metric(
    installed: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    before = closed(installed, "limit")
    async with serving(installed.app, most=2, idle_seconds=60) as root:
        async with peer(root) as one, peer(root) as two:
            for client in (one, two):
                await client.send(ALIVE + b"\r\n")
                assert (await client.answer())[0] == 200
            with caplog.at_level(logging.WARNING, "telemetry.connections"):
                for _ in range(3):
                    async with peer(root) as third:
                        assert (await third.answer())[0] == 503
                        assert await third.closed() == b""
            logged = [record.getMessage() for record in caplog.records if record.name == "telemetry.connections"]
            assert logged == ["all 2 connections (CONNECTION_LIMIT) are in use, further ones get 503"]
        assert closed(installed, "limit") == before + 3

        async def admitted() -> bool:
            async with peer(root) as fresh:
                await fresh.send(ALIVE + b"\r\n")
                return (await fresh.answer())[0] == 200

        async with asyncio.timeout(ANSWER_SECONDS):
            while not await admitted():
                await asyncio.sleep(SHORT_SECONDS / 10)


async def test_requests_that_ask_for_another_protocol_or_are_none_write_no_log_lines(
    installed: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(installed.app) as root, peer(root) as client:
            await client.send(ALIVE + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert (await client.answer())[0] == 200
            await client.send(b"nonsense\r\n\r\n")
            assert (await client.answer())[0] == 400
    ours = [record for record in caplog.records if record.name.partition(".")[0] in ("api", "telemetry", "uvicorn")]
    assert [record.getMessage() for record in ours if record.levelno >= logging.WARNING] == []
