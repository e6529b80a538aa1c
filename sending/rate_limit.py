"""Rate limiter of a subscription: requests keep its limit on the wire, and one worker at a time sends them.

The limit applies to the moment of sending, after everything else that may hold a request up.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.operations.workers import LEASE_SECONDS
from storage.subscriptions.state import release_lease, take_lease
from temporal.periodic import run_periodically

HEADROOM = 0.98
"""Share of the limit that is used, since some requests are delayed on their way by a few milliseconds."""

CATCH_UP_SECONDS = 0.02
"""Maximum catch-up after a late wake-up. Without a cap, delayed requests would go out as a burst."""

SLOW_PER_SECOND = 50
"""Limit below which the smaller catch-up applies. There one request more in a second is more than 2 %, and the 2 % of
headroom are left for delays on the way."""

CATCH_UP_WHEN_SLOW_SECONDS = 0.004
"""Maximum catch-up below `SLOW_PER_SECOND`."""

RENEW_SECONDS = 1.0
"""Interval at which a worker renews its limiter leases."""

VALID_SECONDS = LEASE_SECONDS - 0.5
"""Time after the last renewal for which a worker sends: after that, another worker may soon hold the lease."""


class LimiterLeaseLostError(Exception):
    """This worker no longer holds the limiter lease of the subscription."""


@dataclass(slots=True)
class LimiterLease:
    """This worker's lease of a subscription's rate limiter."""

    renewed_at: float
    """Instant before the last successful renewal was requested (monotonic clock)."""
    lost: bool = False

    @property
    def valid(self) -> bool:
        """Return True if no other worker can hold the lease. False also in a process that was stopped for a while."""
        return time.monotonic() - self.renewed_at < VALID_SECONDS


class RateLimiter:
    """Token bucket for one subscription's requests in this worker."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.lease: LimiterLease | None = None
        self._next_at = 0.0
        self._waiting = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the next request may be sent, first come first served. Raises LimiterLeaseLostError."""
        async with self._waiting:
            while True:
                if not (seconds := self._seconds()):
                    break
                await asyncio.sleep(seconds)
            slow = self.per_second < SLOW_PER_SECOND
            catch_up = CATCH_UP_WHEN_SLOW_SECONDS if slow else CATCH_UP_SECONDS
            earliest = max(self._next_at, time.monotonic() - catch_up)
            self._next_at = earliest + 1 / (self.per_second * HEADROOM)

    async def hand_over(self) -> None:
        """Wait until the next request could be sent, at most 1 s, the interval over which a limit is counted."""
        await asyncio.sleep(min(max(0.0, self._next_at - time.monotonic()), 1.0))

    def interrupt(self) -> None:
        """Fail the waiting requests with LimiterLeaseLostError, because the receiver has asked for a lower rate."""
        self.lease = None

    def _seconds(self) -> float:
        """Return the seconds until the next check, 0 if a request may be sent now."""
        if self.lease is None or self.lease.lost:
            raise LimiterLeaseLostError
        seconds = self._next_at - time.monotonic()
        return min(max(seconds, CATCH_UP_SECONDS), RENEW_SECONDS) if seconds > 0 or not self.lease.valid else 0.0


class RateLimiters(dict[UUID, RateLimiter]):
    """The rate limiters of one worker, by subscription. Subscriptions without a limit have none."""

    def limit(self, subscription_id: UUID, per_second: float | None, lease: LimiterLease | None) -> None:
        """Set the rate limit of a subscription's drain while `lease` is held; None removes the limit."""
        if per_second is None:
            self.pop(subscription_id, None)
            return
        limiter = self.setdefault(subscription_id, RateLimiter(per_second))
        limiter.per_second, limiter.lease = per_second, lease


class LimiterLeases:
    """The limiter leases of one worker."""

    def __init__(self, database: Database, worker_id: UUID) -> None:
        self._database = database
        self._worker_id = worker_id

    @asynccontextmanager
    async def hold(self, subscription_id: UUID) -> AsyncIterator[LimiterLease | None]:
        """Hold and renew the lease of a subscription during the block; yields None if another worker holds it."""
        requested_at = time.monotonic()
        if not await self._database.run(take_lease, subscription_id, self._worker_id):
            yield None
            return
        lease = LimiterLease(requested_at)

        async def renew() -> None:
            if lease.lost:
                return
            requested_at = time.monotonic()
            if await self._database.run(take_lease, subscription_id, self._worker_id):
                lease.renewed_at = requested_at
            else:
                lease.lost = True

        task = f"renewal of the limiter lease of subscription {subscription_id}"
        renewing = asyncio.create_task(run_periodically(task, renew, every_seconds=RENEW_SECONDS, at_once=False))
        try:
            yield lease
        finally:
            lease.lost = True
            renewing.cancel()
            with suppress(SQLAlchemyError, OSError, TimeoutError):
                await self._database.run(release_lease, subscription_id, self._worker_id)
