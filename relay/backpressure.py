"""How much this worker has taken on: the relay asks before it hands over more."""

import math
import time
from collections.abc import Callable, Collection
from enum import StrEnum


class Way(StrEnum):
    """How events go: one by one, or together with those of other quiet stores; or in batches, of busy stores."""

    SINGLE = "single"
    MIXED = "mixed"
    BATCH = "batch"


MOST_OPEN = {
    Way.SINGLE: 16,
    Way.MIXED: 2,
    Way.BATCH: 3,
}
"""Workflows handed over whose first attempts are not over. Of three batches one is being started, one in the database
and one on the wire. Each way has places of its own: what comes one by one waits for no batch."""

FOREIGN_AFTER_SECONDS = 0.5
"""A workflow started that this worker has not begun by then is another worker's business."""

STARTING = math.inf


class Gate:
    """Workflows handed over by this worker's relay whose first attempts are not over yet."""

    def __init__(self) -> None:
        self._open: dict[Way, dict[str, float | None]] = {way: {} for way in Way}
        self._expected: dict[str, Collection[str]] = {}
        self.on_room: Callable[[Way], None] = lambda _: None
        """Called when there is room where there may have been none."""
        self.on_expected: Callable[[Collection[str]], None] = lambda _: None
        """Called when it changes of which quiet stores events are on their way to their first attempts."""

    def handed_over(self, workflow_id: str, way: Way, store_codes: Collection[str]) -> None:
        """Count a workflow that is about to be started, for as long as Temporal has not taken it."""
        self._open[way][workflow_id] = STARTING
        if way is not Way.BATCH:
            self._expected[workflow_id] = store_codes
            self._tell_expected()

    def started(self, workflow_id: str) -> None:
        """Temporal has it."""
        for held in self._open.values():
            if held.get(workflow_id) == STARTING:
                held[workflow_id] = time.monotonic()

    def entered(self, workflow_id: str) -> None:
        """This worker makes the first attempts of it."""
        for held in self._open.values():
            if workflow_id in held:
                held[workflow_id] = None

    def begun(self, workflow_id: str) -> None:
        """Its first attempts are as far as the queue for their places."""
        if self._expected.pop(workflow_id, None) is not None:
            self._tell_expected()

    def left(self, workflow_id: str) -> None:
        """Its first attempts are over, or it was not started."""
        self.begun(workflow_id)
        for way, held in self._open.items():
            if workflow_id in held:
                was_full = len(held) >= MOST_OPEN[way]
                del held[workflow_id]
                if was_full or way is Way.BATCH:  # the relay may have left the last place of batches free on purpose
                    self.on_room(way)

    def room(self, way: Way) -> int:
        """How many more workflows may be handed over this way."""
        return max(0, MOST_OPEN[way] - self._count(way))

    def room_again(self, way: Way) -> int:
        """How many that were handed over before and never taken may be once more. They have as many places again, so
        that new ones do not keep them waiting."""
        return max(0, 2 * MOST_OPEN[way] - self._count(way))

    def _count(self, way: Way) -> int:
        overdue = time.monotonic() - FOREIGN_AFTER_SECONDS
        held = self._open[way]
        for workflow_id in [name for name, since in held.items() if since is not None and since < overdue]:
            del held[workflow_id]
            self.begun(workflow_id)
        return len(held)

    def _tell_expected(self) -> None:
        self.on_expected({store_code for store_codes in self._expected.values() for store_code in store_codes})
