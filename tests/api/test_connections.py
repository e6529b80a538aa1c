"""Bounds on the heads of requests, over real sockets. No database is needed for them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from api.connections import MOST_HEAD_BYTES, MOST_HEADERS, MOST_PART_BYTES
from tests.api.installation import Installation, installation
from tests.api.serving import serving

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: api\r\n"
LOGIN = b"POST /api/admin/login_check HTTP/1.1\r\nHost: api\r\n"
FLOOD_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 20


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
    @pytest.mark.parametrize(
        ("allowed", "too_much", "status"),
        [
            ({"target_bytes": MOST_PART_BYTES}, {"target_bytes": MOST_PART_BYTES + 1}, 414),
            ({"header_bytes": MOST_PART_BYTES}, {"header_bytes": MOST_PART_BYTES + 1}, 431),
            ({"headers": MOST_HEADERS}, {"headers": MOST_HEADERS + 1}, 431),
            ({"total_bytes": MOST_HEAD_BYTES}, {"total_bytes": MOST_HEAD_BYTES + 1}, 431),
        ],
        ids=["target", "header", "number of headers", "all headers"],
    )
    async def test_a_head_above_a_bound_is_refused_and_the_largest_allowed_is_not(
        self, installed: Installation, allowed: dict[str, int], too_much: dict[str, int], status: int
    ) -> None:
        async with serving(installed.app) as root, peer(root) as client:
            await client.send(head_of(**allowed))
            assert (await client.answer())[0] == 200
            await client.send(head_of(**too_much))
            refused, body = await client.answer()
            assert (refused, json.loads(body)["code"]) == (status, status)
            assert await client.closed() == b""

    @pytest.mark.parametrize(
        ("beginning", "more"),
        [
            (b"GET /", b"a" * 16384),
            (ALIVE + b"a: ", b"a" * 16384),
            (ALIVE, b"a: b\r\n" * 2000),
            (b"", b"\r\n" * 8192),
            (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 16384),
            (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", b"a: b\r\n" * 2000),
        ],
        ids=["target", "header", "headers", "line ends before the request", "chunk extension", "trailers"],
    )
    async def test_a_part_without_end_closes_the_connection_and_others_are_answered(
        self, installed: Installation, beginning: bytes, more: bytes
    ) -> None:
        async with serving(installed.app) as root, peer(root) as client, httpx.AsyncClient(base_url=root) as other:
            await client.send(beginning)
            sent = 0
            closed = asyncio.create_task(client.closed())
            while not closed.done() and sent < FLOOD_BYTES:
                await client.send(more)
                sent += len(more)
                await asyncio.sleep(0)
            assert sent < FLOOD_BYTES
            assert (await other.get("/healthz")).status_code == 200
