"""Timeout shared by many concurrent requests, on one timer: uvloop takes some 15 µs to set and clear a timer."""

import asyncio
from types import TracebackType


class Deadlines:
    """Timeouts of `seconds` each. Build it inside the running event loop:

    with deadlines.limit():   # TimeoutError when the block takes longer
        await ...
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limits: dict[Limit, float] = {}
        """Active limits with their end (loop clock). All have the same length, so the first one ends first."""
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "Limit":
        """Return a context manager that cancels its block at the end of the timeout, and raises TimeoutError."""
        return Limit(self)

    def begin(self, limit: "Limit") -> None:
        """Start the timeout of a limit."""
        ends_at = self._limits[limit] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(ends_at, self._expire_due)

    def end(self, limit: "Limit") -> None:
        """Stop the timeout of a limit."""
        self._limits.pop(limit, None)

    def _expire_due(self) -> None:
        """Expire the limits that are due, and set the timer for the next one."""
        self._timer = None
        now = self._loop.time()
        while self._limits:
            limit, ends_at = next(iter(self._limits.items()))
            if ends_at > now:
                self._timer = self._loop.call_at(ends_at, self._expire_due)
                return
            del self._limits[limit]
            limit.expire()


class Limit:
    """Timeout of one block, with the rules of `asyncio.timeout` about cancellation by others."""

    __slots__ = ("_cancellations", "_deadlines", "_expired", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task to cancel")
        self._task = task
        self._cancellations = task.cancelling()
        self._deadlines.begin(self)

    def expire(self) -> None:
        """Cancel the block."""
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.end(self)
        only_ours = self._expired and self._task.uncancel() <= self._cancellations
        if only_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error
