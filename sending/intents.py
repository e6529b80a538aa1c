"""First attempts whose intents were written with the match: which of them are no longer to be made."""

import time
from uuid import UUID

from storage.deliveries.open import OpenDelivery
from storage.operations.workers import LONGEST_ATTEMPT_SECONDS

OLDEST_INTENT_SECONDS = LONGEST_ATTEMPT_SECONDS / 2
"""A first attempt whose turn comes later than this is not made: others would soon take its lease for lapsed."""

REMEMBERED_SECONDS = 60.0
"""Longer than whoever matched events takes to begin their attempts."""


class Intents:
    """Of one worker. An event can be in two workflows at once, its own and a batch: while one has had it matched and
    has not begun, the other takes the intent for lost and makes the next attempt, after which the first has none to
    make."""

    def __init__(self) -> None:
        self._overtaken: dict[UUID, float] = {}

    def overtake(self, delivery: OpenDelivery) -> None:
        """The intent of an attempt was written; if the one before was this worker's and open, it is not to be made."""
        if delivery.sender_id is not None:
            now = time.monotonic()
            self._overtaken = {one: at for one, at in self._overtaken.items() if now - at < REMEMBERED_SECONDS}
            self._overtaken[delivery.message_id] = now

    def may_make(self, delivery: OpenDelivery, begun_at: float) -> bool:
        """Whether an attempt may still be made that was begun then, and whose intent was written before."""
        return delivery.message_id not in self._overtaken and time.monotonic() - begun_at <= OLDEST_INTENT_SECONDS
