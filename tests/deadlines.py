"""Waiting for a condition with a deadline, instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.02


async def eventually(condition: Callable[[], Awaitable[bool]], deadline_seconds: float, what: str) -> None:
    """Return when the condition holds; fail, saying what was awaited, when it does not by then."""
    until = time.monotonic() + deadline_seconds
    while not await condition():
        assert time.monotonic() < until, f"not within {deadline_seconds} s: {what}"
        await asyncio.sleep(PAUSE_SECONDS)
