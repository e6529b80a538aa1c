"""One time limit for many requests at once, with one timer for all: uvloop takes some 15 µs to set and clear one."""

import asyncio
from types import TracebackType


class Deadlines:
    """Limits of `seconds` each. Build it inside the running event loop, use it for one task's block at a time:

    with deadlines.limit():   # TimeoutError when the block takes longer
        await ...
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limits: dict[Limit, float] = {}
        """Those under way and when each ends, by the loop's clock; all are as long, so the first ends first."""
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "Limit":
        """A context manager that cancels what its block waits for when the time is over, and raises TimeoutError."""
        return Limit(self)

    def begin(self, limit: "Limit") -> None:
        """Watch a limit from now on."""
        ends_at = self._limits[limit] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(ends_at, self._look)

    def end(self, limit: "Limit") -> None:
        """Watch it no longer."""
        self._limits.pop(limit, None)

    def _look(self) -> None:
        """End what is over, and look again when the next one may be."""
        self._timer = None
        now = self._loop.time()
        while self._limits:
            limit, ends_at = next(iter(self._limits.items()))
            if ends_at > now:
                self._timer = self._loop.call_at(ends_at, self._look)
                return
            del self._limits[limit]
            limit.over()


class Limit:
    """As `asyncio.timeout`, whose rules about cancellation from elsewhere it keeps."""

    __slots__ = ("_cancellations", "_deadlines", "_over", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task to cancel")
        self._task = task
        self._cancellations = task.cancelling()
        self._deadlines.begin(self)

    def over(self) -> None:
        """Cancel what the block waits for."""
        self._over = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.end(self)
        only_ours = self._over and self._task.uncancel() <= self._cancellations
        if only_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error
