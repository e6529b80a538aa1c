"""The worker's health port bounds heads, and ends what clients leave unfinished."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from telemetry import serving
from telemetry.connections import BoundedProtocol, ConnectionLimits
from tests.api.test_connections import ALIVE, ANSWERED_EARLY, peer

SHORT_SECONDS = 0.5
REQUEST = ALIVE + b"\r\n"


@asynccontextmanager
async def health_port(**limits: Any) -> AsyncIterator[str]:
    """Its address, with these limits or the default ones."""
    app = Starlette(routes=[Route("/healthz", lambda _: Response("ok"))])
    protocol = partial(BoundedProtocol, ConnectionLimits(**limits)) if limits else None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with serving.serving(app, protocol, sock=listening):
            yield "http://127.0.0.1:{1}".format(*listening.getsockname())


async def test_a_head_above_the_bound_is_refused() -> None:
    async with health_port() as root, peer(root) as client:
        await client.send(ALIVE + b"a: " + b"a" * 17 * 1024 + b"\r\n\r\n")
        assert b" 431 " in await client.closed()


async def test_a_connection_whose_last_body_ended_after_its_response_is_closed_as_an_idle_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_SECONDS", SHORT_SECONDS)
    beginning, end = ANSWERED_EARLY
    async with health_port() as root, peer(root) as client:
        await client.send(beginning)
        assert (await client.answer())[0] == 404
        await client.send(end)
        assert await client.closed() == b""


async def test_an_unfinished_request_is_ended_and_a_resting_connection_is_not() -> None:
    async with health_port(head_seconds=SHORT_SECONDS, body_seconds=SHORT_SECONDS) as root:
        for sent in (b"", REQUEST[:9], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"):
            async with peer(root) as client:
                await client.send(sent)
                assert b" 200 " not in await client.closed()
        async with peer(root) as client:
            for _ in range(2):
                await client.send(REQUEST)
                assert (await client.answer())[0] == 200
                await asyncio.sleep(2 * SHORT_SECONDS)
            await client.send(REQUEST[:9])
            assert b" 408 " in await client.closed()


async def test_connections_beyond_the_limit_are_refused() -> None:
    async with health_port(most=1) as root, peer(root) as client, peer(root) as other:
        assert (await other.answer())[0] == 503
        await client.send(REQUEST)
        assert (await client.answer())[0] == 200
