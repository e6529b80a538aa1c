"""Backpressure: credits for the workflows whose first attempts this worker has in flight."""

import asyncio
import math
import time
from enum import StrEnum


class WorkflowKind(StrEnum):
    """Kind of a workflow: it delivers one event or a batch of events."""

    SINGLE = "single"
    BATCH = "batch"


MAX_IN_FLIGHT = {WorkflowKind.SINGLE: 4, WorkflowKind.BATCH: 3}
"""Maximum number of workflows whose first attempts are not over. Of three batches one is being started, one is in the
database and one is on the wire. Single events have credits of their own, so that they do not wait behind batches; few,
so that events share workflows as soon as a busy machine takes longer for each."""

FOREIGN_AFTER_SECONDS = 0.5
"""Time after the start of a workflow until another worker is assumed to have taken it, which frees its credit here."""

STARTING = math.inf


class Backpressure:
    """The workflows this worker's relay has started and whose first attempts are not over, and the credits left."""

    def __init__(self) -> None:
        self._in_flight: dict[WorkflowKind, dict[str, float | None]] = {kind: {} for kind in WorkflowKind}
        """By workflow id: STARTING, the instant of its start (monotonic clock), or None once this worker runs it."""
        self.wake = asyncio.Event()
        """Set when a credit is released after all were in use. The relay sleeps on it."""

    def acquire(self, workflow_id: str, kind: WorkflowKind) -> None:
        """Take a credit for a workflow that is about to be started; it is held while Temporal has not answered."""
        self._in_flight[kind][workflow_id] = STARTING

    def started(self, workflow_id: str) -> None:
        """Note that Temporal has taken the workflow."""
        for workflows in self._in_flight.values():
            if workflows.get(workflow_id) == STARTING:
                workflows[workflow_id] = time.monotonic()

    def entered(self, workflow_id: str) -> None:
        """Note that this worker makes the first attempts of the workflow."""
        for workflows in self._in_flight.values():
            if workflow_id in workflows:
                workflows[workflow_id] = None

    def release(self, workflow_id: str) -> None:
        """Give the workflow's credit back: its first attempts are over, or it was not started."""
        for kind, workflows in self._in_flight.items():
            if workflow_id in workflows:
                was_exhausted = len(workflows) >= MAX_IN_FLIGHT[kind]
                del workflows[workflow_id]
                if was_exhausted:
                    self.wake.set()

    def credits(self, kind: WorkflowKind) -> int:
        """Return how many more workflows of this kind may be started."""
        return max(0, MAX_IN_FLIGHT[kind] - self._count(kind))

    def credits_for_lapsed(self, kind: WorkflowKind) -> int:
        """Return how many lapsed workflows may be started. The limit is doubled, so that new ones do not delay them."""
        return max(0, 2 * MAX_IN_FLIGHT[kind] - self._count(kind))

    def _count(self, kind: WorkflowKind) -> int:
        overdue = time.monotonic() - FOREIGN_AFTER_SECONDS
        workflows = self._in_flight[kind]
        for workflow_id in [name for name, since in workflows.items() if since is not None and since < overdue]:
            del workflows[workflow_id]
        return len(workflows)
