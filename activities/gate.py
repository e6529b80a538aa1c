"""How much this worker has taken on: the relay asks before it hands over more."""

import asyncio
import math
import time
from contextlib import suppress

BATCHES_OPEN = 2
"""One batch is in the database while the other is on the wire; a third would only queue."""

SINGLES_OPEN = 16
"""Events handed over one by one whose first attempts are not over."""

FOREIGN_AFTER_SECONDS = 0.5
"""A workflow started that this worker has not begun by then is another worker's business."""

STARTING = math.inf


class Gate:
    """Workflows handed over by this worker's relay whose first attempts are not over yet."""

    def __init__(self) -> None:
        self._batches: dict[str, float | None] = {}
        self._singles: dict[str, float | None] = {}
        self._changed = asyncio.Event()

    def handed_over(self, workflow_id: str, *, batch: bool) -> None:
        """Count a workflow that is about to be started, for as long as Temporal has not taken it."""
        (self._batches if batch else self._singles)[workflow_id] = STARTING

    def started(self, workflow_id: str) -> None:
        """Temporal has it."""
        for held in (self._batches, self._singles):
            if held.get(workflow_id) == STARTING:
                held[workflow_id] = time.monotonic()

    def entered(self, workflow_id: str) -> None:
        """This worker makes the first attempts of it."""
        for held in (self._batches, self._singles):
            if workflow_id in held:
                held[workflow_id] = None

    def left(self, workflow_id: str) -> None:
        """Its first attempts are over, or it was not started."""
        self._batches.pop(workflow_id, None)
        self._singles.pop(workflow_id, None)
        self._changed.set()

    def free_singles(self) -> int:
        """How many more events may be handed over one by one."""
        self._forget_foreign()
        return max(0, SINGLES_OPEN - len(self._singles))

    async def open(self) -> bool:
        """Wait a moment for room for another batch and another single event; whether there is."""
        if not self._has_room():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(FOREIGN_AFTER_SECONDS):
                    await self._changed.wait()
        return self._has_room()

    def _has_room(self) -> bool:
        self._forget_foreign()
        return len(self._batches) < BATCHES_OPEN and len(self._singles) < SINGLES_OPEN

    def _forget_foreign(self) -> None:
        overdue = time.monotonic() - FOREIGN_AFTER_SECONDS
        for held in (self._batches, self._singles):
            for workflow_id in [name for name, since in held.items() if since is not None and since < overdue]:
                del held[workflow_id]
