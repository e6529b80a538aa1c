"""Keeps a rate limit where it is felt: on the wire, whatever held requests up before, and in one worker at a time."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.operations.workers import LEASE_SECONDS
from storage.subscriptions.limiter_lease import release_lease, take_lease

logger = logging.getLogger(__name__)

HEADROOM = 0.98
"""Of the limit is used: on their way to the receiver requests are held up, one some milliseconds more than another."""

CATCH_UP_SECONDS = 0.02
"""So much of what a late wake-up lost is made good; all of it, and what was held up would go at once."""

SLOW_PER_SECOND = 20
"""Below this one request more in a second is more than 5 %: then hardly anything is made good, and the 2 % are left for
what happens on the way."""

CATCH_UP_WHEN_SLOW_SECONDS = 0.004

RENEW_SECONDS = 1.0
"""How often a worker says that it is still its turn."""

STEADY_SECONDS = LEASE_SECONDS - 0.5
"""After so long without having said so a worker sends no more: others may soon take the turn, or have."""

DATABASE_FAULTS = (SQLAlchemyError, OSError, TimeoutError)


class LimiterLeaseLostError(Exception):
    """Another worker keeps the limit now, or nobody does."""


class Turn:
    """This worker's turn at keeping a subscription's limit."""

    def __init__(self, begun_at: float) -> None:
        self.seen_at = begun_at
        """When the database was last asked and agreed, by the monotonic clock before the question."""
        self.over = False

    @property
    def steady(self) -> bool:
        """Whether nobody else can have it. False also in a process that was stopped for a while."""
        return time.monotonic() - self.seen_at < STEADY_SECONDS


class RateLimiter:
    """The pace of one subscription's requests in this worker."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.turn: Turn | None = None
        self._next_at = 0.0
        self._in_line = asyncio.Lock()

    async def wait(self) -> None:
        """Until the next request may go out, first come first served. Raises LimiterLeaseLostError."""
        async with self._in_line:
            while True:
                seconds = self._seconds()
                if not seconds:
                    break
                await asyncio.sleep(seconds)
            slow = self.per_second < SLOW_PER_SECOND
            made_good = CATCH_UP_WHEN_SLOW_SECONDS if slow else CATCH_UP_SECONDS
            behind = max(self._next_at, time.monotonic() - made_good)
            self._next_at = behind + 1 / (self.per_second * HEADROOM)

    async def over(self) -> None:
        """Until the next request could go out, a second at most: a limit is of what goes out in a second."""
        await asyncio.sleep(min(max(0.0, self._next_at - time.monotonic()), 1.0))

    def interrupt(self) -> None:
        """Have whoever waits begin anew, at the pace that its receiver has asked for just now."""
        self.turn = None

    def _seconds(self) -> float:
        """Until it is worth looking again; 0 when a request may go."""
        if self.turn is None or self.turn.over:
            raise LimiterLeaseLostError
        seconds = self._next_at - time.monotonic()
        return min(max(seconds, CATCH_UP_SECONDS), RENEW_SECONDS) if seconds > 0 or not self.turn.steady else 0.0


class RateLimiters:
    """Of one worker, by subscription."""

    def __init__(self) -> None:
        self._rate_limiters: dict[UUID, RateLimiter] = {}

    def keep(self, subscription_id: UUID, per_second: float | None, turn: Turn | None) -> None:
        """At most so many a second, while it is this turn; None: as fast as may be."""
        if per_second is None:
            self._rate_limiters.pop(subscription_id, None)
            return
        pace = self._rate_limiters.setdefault(subscription_id, RateLimiter(per_second))
        pace.per_second, pace.turn = per_second, turn

    def interrupt(self, subscription_id: UUID) -> None:
        """As `RateLimiter.interrupt`, where there is a limit."""
        if (pace := self._rate_limiters.get(subscription_id)) is not None:
            pace.interrupt()

    async def over(self, subscription_id: UUID) -> None:
        """As `RateLimiter.over`, where there is a limit."""
        if (pace := self._rate_limiters.get(subscription_id)) is not None:
            await pace.over()

    async def wait(self, subscription_id: UUID) -> None:
        """As `RateLimiter.wait`; at once where there is no limit."""
        if (pace := self._rate_limiters.get(subscription_id)) is not None:
            await pace.wait()


class Turns:
    """Of one worker."""

    def __init__(self, database: Database, worker_id: UUID) -> None:
        self._database = database
        self._worker_id = worker_id

    @asynccontextmanager
    async def turn(self, subscription_id: UUID) -> AsyncIterator[Turn | None]:
        """This worker's turn for as long as the block runs; None when it is another's."""
        asked_at = time.monotonic()
        async with self._database.transaction() as connection:
            ours = await take_lease(connection, subscription_id, self._worker_id)
        if not ours:
            yield None
            return
        turn = Turn(asked_at)
        renewing = asyncio.create_task(self._renew(subscription_id, turn))
        try:
            yield turn
        finally:
            turn.over = True
            renewing.cancel()
            with suppress(*DATABASE_FAULTS):
                async with self._database.transaction() as connection:
                    await release_lease(connection, subscription_id, self._worker_id)

    async def _renew(self, subscription_id: UUID, turn: Turn) -> None:
        while not turn.over:
            await asyncio.sleep(RENEW_SECONDS)
            asked_at = time.monotonic()
            try:
                async with self._database.transaction() as connection:
                    if not await take_lease(connection, subscription_id, self._worker_id):
                        turn.over = True
                        return
            except DATABASE_FAULTS as error:
                logger.warning("the turn at %s was not renewed: %s", subscription_id, type(error).__name__)
            else:
                turn.seen_at = asked_at
