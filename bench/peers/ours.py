"""Ours: emitted over HTTP, as a platform does, in batches of NDJSON, or one by one when there is one."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import orjson

from bench.peers.work import STORE, Event


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], Awaitable[None]]]:
    """What posts events to the API."""
    root = f"{os.environ['BENCH_API']}/api/{STORE}/event"
    async with aiohttp.ClientSession(headers={"X-AUTH-TOKEN": os.environ["BENCH_KEY"]}) as session:

        async def post(url: str, content: bytes, kind: str) -> None:
            async with session.post(url, data=content, headers={"Content-Type": kind}) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")
                await answer.read()

        async def emit(events: Sequence[Event]) -> None:
            if len(events) == 1:
                await post(root, orjson.dumps({"event": events[0]}), "application/json")
            else:
                await post(f"{root}/batch", b"\n".join(map(orjson.dumps, events)), "application/x-ndjson")

        yield emit
