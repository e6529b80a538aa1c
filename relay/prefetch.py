"""What was read of single events with their claims, until their workflows ask for the match: some milliseconds."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from storage.deliveries.open import OpenDelivery
from storage.events.intake import EventKey
from storage.events.single_events import ReadAhead

FRESH_SECONDS = 0.25
"""What was read earlier than that is read anew: webhooks may have changed. A workflow starts within some 5 ms."""


def is_for(event_id: UUID, *, rank: int, workers: int) -> bool:
    """Whether an event that came alone is for the worker of this rank, from 0, of so many: each is for one of them."""
    return event_id.int % workers == rank


class EventsAhead:
    """Of one worker: kept by its relay, taken by the match of the same event."""

    def __init__(self) -> None:
        self._kept: dict[EventKey, tuple[float, ReadAhead]] = {}
        self.on_planned: Callable[[Sequence[OpenDelivery]], None] = lambda _: None
        """Told of the deliveries that the match of an event may begin."""

    def keep(self, ahead: Mapping[EventKey, ReadAhead]) -> None:
        """Keep what was read just now, and forget what nobody asks for in time: it holds a customer's data."""
        now = time.monotonic()
        for key, read in ahead.items():
            self._kept[key] = now, read
            asyncio.get_running_loop().call_later(FRESH_SECONDS, self._forget, key, now)
        for read in ahead.values():
            if read.planned is not None:
                self.on_planned([one for one in read.planned[1] if one.intended])

    def _forget(self, key: EventKey, read_at: float) -> None:
        if key in self._kept and self._kept[key][0] == read_at:
            del self._kept[key]

    def take(self, key: EventKey) -> ReadAhead | None:
        """What was read of an event, once; None when nothing was, or not lately."""
        read_at, ahead = self._kept.pop(key, (0.0, None))
        return ahead if time.monotonic() - read_at <= FRESH_SECONDS else None
