"""Waiting for a condition with a deadline, instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
WAITED_SHARE = 0.05
"""A pause lasts this part of the time waited so far: a database asked every 20 ms takes a fifth of a core."""


async def eventually(condition: Callable[[], Awaitable[bool]], deadline_seconds: float, what: str) -> None:
    """Return when the condition holds; fail, saying what was awaited, when it does not by then.

    The last look begins after the deadline: an earlier one may have been held up itself.
    """
    began = time.monotonic()
    over = False
    while not await condition():
        assert not over, f"not within {deadline_seconds} s: {what}"
        waited = time.monotonic() - began
        over = waited >= deadline_seconds
        await asyncio.sleep(min(max(PAUSE_SECONDS, waited * WAITED_SHARE), LONGEST_PAUSE_SECONDS))
