"""The platform's side, in a process of its own: `python -m bench.peers.emitter MODULE`, told by lines what to emit.

    burst NAME COUNT          as fast as they are taken, 500 at a time
    steady NAME COUNT RATE    one by one, evenly spaced

Each line is answered with one, a JSON object: `began` and `ended`, in seconds since 1970.
"""

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from bench.peers.work import Event, new_event

BATCH = 500

Emit = Callable[[Sequence[Event]], Awaitable[None] | None]


async def emit_once(emit: Emit, events: Sequence[Event]) -> None:
    """Emit, whichever way the library has."""
    result = emit(events)
    if inspect.isawaitable(result):
        await result


async def burst(emit: Emit, name: str, count: int) -> None:
    """As fast as they are taken."""
    for start in range(0, count, BATCH):
        await emit_once(emit, [new_event(name) for _ in range(min(BATCH, count - start))])


async def steady(emit: Emit, name: str, count: int, rate: float) -> None:
    """Evenly spaced, whatever an emit takes."""
    next_at = time.monotonic()
    for _ in range(count):
        await emit_once(emit, [new_event(name)])
        next_at += 1 / rate
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))


async def obey(module: str) -> None:
    """Emit what standard input says until it ends."""
    async with importlib.import_module(f"bench.peers.{module}").emitting() as emit:
        while line := await asyncio.to_thread(sys.stdin.readline):
            way, name, count, *rate = line.split()
            began = time.time()
            if way == "burst":
                await burst(emit, name, int(count))
            else:
                await steady(emit, name, int(count), float(rate[0]))
            print(json.dumps({"began": began, "ended": time.time()}), flush=True)


if __name__ == "__main__":
    uvloop.run(obey(sys.argv[1]))
