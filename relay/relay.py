"""The relay: claims events from the outbox and starts their workflows, under ids that the claim has committed.

At a low rate each event starts a workflow of its own at once. At a higher rate one workflow takes up to several hundred
events, since a workflow costs some 35 ms of CPU and an event in a batch a fraction of a millisecond. A batch takes
events of all waiting stores round robin, so that an event of a quiet store is in one of the next batches, whatever the
backlog of the others.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from temporalio.client import Client
from temporalio.common import TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from domain.delivery.identity import BATCH_PREFIX, batch_workflow_id
from domain.urls.targets import shown_target
from relay.backpressure import Backpressure, WorkflowKind
from relay.batching import Batching
from storage.database import Database
from storage.events.outbox import OUTBOX_CHANNEL, Claim, ClaimedEvent, ClaimLimits, claim, claim_lapsed
from telemetry.logs import Repeated
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_metrics import WorkerMetrics
from temporal.client import START_TIMEOUT, encrypts
from temporal.messages import EventBatch, EventRef
from temporal.outages import OUTAGES, in_words, is_refused
from temporal.periodic import run_periodically
from temporal.versions import VersionRouting
from temporal.visibility import event_summary, memo, search_attributes

logger = logging.getLogger(__name__)

LAPSED_CHECK_SECONDS = 1.0
"""Interval between two looks for lapsed claims."""

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=4)
"""Time until a worker's death is noticed during first attempts; longer ones keep their workflow task alive. Another
worker has to send the dead worker's unfinished events within 5 s of its death."""

STOP_SECONDS = 2.0
"""Time for starts under way when the relay is asked to stop; the rest is started by another relay."""

FAULT_PAUSE_SECONDS = 0.5
"""Pause between tries while PostgreSQL or Temporal is away."""

LISTENER_CHECK_SECONDS = 10.0
"""Interval at which the listener's connection is checked, and the time-out of the check."""


@dataclass(frozen=True)
class RelaySettings:
    """Settings of a relay. `batch_events` 1: no batches; `poll_seconds` bounds the delay after a lost notification."""

    task_queue: str
    batch_events: int
    poll_seconds: float
    claim_lease_seconds: float


@dataclass(eq=False)
class Relay:
    """Relay of one worker process; several run side by side. `run` returns after `stop`."""

    database: Database
    client: Client
    backpressure: Backpressure
    settings: RelaySettings
    metrics: WorkerMetrics
    routing: VersionRouting
    traces: Traces = NO_TRACES
    _batching: Batching = field(init=False, default_factory=Batching)
    _after: str = field(init=False, default="")
    _left: bool = field(init=False, default=False)
    """True if an earlier claim of the current round over the stores may have left events unclaimed."""
    _stopping: bool = field(init=False, default=False)
    _starts: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _unstarted: Repeated = field(init=False, default_factory=Repeated)

    def stop(self) -> None:
        """Claim no more; what is claimed is still started, unless Temporal is away."""
        self._stopping = True
        self.backpressure.wake.set()

    async def run(self) -> None:
        """Relay events until stopped. Raises the error that ended a part of the relay."""
        lapsed, listener = "check for lapsed claims", "outbox listener (the relay polls meanwhile)"
        parts: list[asyncio.Task[None]] = [
            asyncio.create_task(self._claim_waiting()),
            asyncio.create_task(
                run_periodically(lapsed, self._claim_lapsed, every_seconds=LAPSED_CHECK_SECONDS, at_once=False)
            ),
            asyncio.create_task(run_periodically(listener, self._listen, every_seconds=FAULT_PAUSE_SECONDS)),
        ]
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            starts = [*self._starts.values()]
            if starts:
                await asyncio.wait(starts, timeout=STOP_SECONDS)
            for start in starts:
                start.cancel()
            await asyncio.gather(*parts, *starts, return_exceptions=True)

    async def _claim_waiting(self) -> None:
        while not self._stopping:
            try:
                await self._claim_once()
            except OUTAGES as error:
                logger.warning(
                    "claim of waiting events failed (%s), retrying in %g s", in_words(error), FAULT_PAUSE_SECONDS
                )
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _claim_once(self) -> None:
        """Make one claim if credits and batching allow any, and sleep unless events are left that may be claimed."""
        wake, poll = self.backpressure.wake, self.settings.poll_seconds
        wake.clear()
        now = time.monotonic()
        limits = self._limits(now)
        if limits.singles or limits.batch_events:
            lease = self.settings.claim_lease_seconds
            with self.metrics.claim_seconds.time():
                async with self.database.single_statements() as connection:
                    claimed = await claim(connection, limits, after=self._after, lease_seconds=lease)
            self._after = claimed.after
            self._start_all(claimed.events)
            if self._note(claimed, now):
                return
        pause = self._batching.pause(now)
        with suppress(TimeoutError):
            async with asyncio.timeout(poll if pause is None else min(pause, poll)):
                await wake.wait()  # an outbox notification or a credit

    def _limits(self, now: float) -> ClaimLimits:
        singles = self.backpressure.credits(WorkflowKind.SINGLE)
        if self.settings.batch_events == 1:
            return ClaimLimits(singles=0, batch_events=singles, batch_id=None)
        may_batch = self.backpressure.credits(WorkflowKind.BATCH) > 0 and self._batching.may_batch(now)
        return ClaimLimits(
            singles=min(singles, self._batching.singles(now)),
            batch_events=self._batching.batch_events(self.settings.batch_events, now) if may_batch else 0,
            batch_id=batch_workflow_id(uuid4()),
        )

    def _note(self, claimed: Claim, now: float) -> bool:
        """Update batching and cursor; return True if the next claim may find events."""
        left = self._left or claimed.more
        more = left or bool(claimed.after)
        self._left = left and bool(claimed.after)
        if self.settings.batch_events > 1:
            batch = any(_kind(event.workflow_id) is WorkflowKind.BATCH for event in claimed.events)
            singles = 0 if batch else len(claimed.events)
            self._batching.claimed(now, singles=singles, batch=batch, more=more, quiet=_quiet_beside_backlog(claimed))
        return more

    def _start_all(self, claimed: Sequence[ClaimedEvent]) -> None:
        """Start the workflows of claimed events, without waiting for Temporal's answer."""
        workflows: dict[str, list[ClaimedEvent]] = defaultdict(list)
        for event in claimed:
            workflows[event.workflow_id].append(event)
        for workflow_id, events in workflows.items():
            if workflow_id in self._starts:
                continue  # its claim lapsed while Temporal is away: the start is still being tried
            kind = _kind(workflow_id)
            self.metrics.handed_over.labels(kind).inc(len(events))
            self.backpressure.acquire(workflow_id, kind)
            self._starts[workflow_id] = asyncio.create_task(self._start(workflow_id, events))

    async def _start(self, workflow_id: str, claimed: Sequence[ClaimedEvent]) -> None:
        """Start one workflow; retry until Temporal has it, another relay has started it, or Temporal refuses it. Events
        that were not started stay claimed; the claim lapses, and then this relay or another starts the same id."""
        events = [EventRef(event.store_code, str(event.event_id), event.name) for event in claimed]
        urls = [] if encrypts(self.client) else [url for event in claimed for url in event.urls]
        attributes = search_attributes(events, [shown_target(url) for url in urls])
        try:
            with self.traces.handing_over(workflow_id, (event.traceparent for event in claimed)):
                while not await self._started(workflow_id, events, attributes):
                    if self._stopping:
                        self.backpressure.release(workflow_id)
                        return
                    await asyncio.sleep(FAULT_PAUSE_SECONDS)
        finally:
            del self._starts[workflow_id]

    async def _started(self, workflow_id: str, events: list[EventRef], attributes: TypedSearchAttributes) -> bool:
        """Ask Temporal once; return False if it makes sense to ask again."""
        try:
            await self.client.start_workflow(
                "deliver-events",
                EventBatch(events),
                id=workflow_id,
                task_queue=self.settings.task_queue,
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                # An eager start runs the first task here, without a hop over Temporal's queue. A worker whose version
                # is not the current one must not ask for it: Temporal would grant it all the same.
                request_eager_start=self.routing.all_here,
                search_attributes=attributes,
                static_summary=event_summary(events),
                memo=memo(events),
                rpc_timeout=START_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            pass
        except RPCError as error:
            self.metrics.start_faults.inc()
            if not is_refused(error):
                logger.log(
                    self._unstarted.level(),
                    "start of workflow %s failed (%s), retrying it and others every %g s",
                    *(workflow_id, in_words(error), FAULT_PAUSE_SECONDS),
                )
                return False
            logger.error(
                "Temporal refuses to start workflow %s (%s), retrying when the claim on its events lapses",
                workflow_id,
                in_words(error),
            )
        except Exception:
            self.metrics.start_faults.inc()
            logger.exception("start of workflow %s failed", workflow_id)
        else:
            self.backpressure.started(workflow_id)
            return True
        self.backpressure.release(workflow_id)
        return True

    async def _claim_lapsed(self) -> None:
        """Start again, under the same ids, events that were claimed and not matched within the lease."""
        lapsed = await self.database.run(
            claim_lapsed,
            singles=self.backpressure.credits_for_lapsed(WorkflowKind.SINGLE),
            batches=self.backpressure.credits_for_lapsed(WorkflowKind.BATCH),
            lease_seconds=self.settings.claim_lease_seconds,
        )
        if lapsed:
            logger.info("%d claimed events not matched within their lease, starting their workflows again", len(lapsed))
            self._start_all(lapsed)

    async def _listen(self) -> None:
        """Listen for new events on a connection of its own, until it is closed or does not respond any more: behind a
        cut network, a connection that only listens would stay open for ever after its server has died."""
        connection = await self.database.listener()
        try:
            closed = asyncio.Event()
            connection.add_termination_listener(lambda _: closed.set())
            await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self.backpressure.wake.set())
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTENER_CHECK_SECONDS):
                        await closed.wait()
                        return
                await connection.execute(f"LISTEN {OUTBOX_CHANNEL}", timeout=LISTENER_CHECK_SECONDS)
        finally:
            connection.terminate()


def _quiet_beside_backlog(claimed: Claim) -> bool:
    """Return True if a quiet store had all its events claimed beside another's backlog: backlogs share evenly, give or
    take one."""
    shares = Counter(event.store_code for event in claimed.events).values()
    if not shares or not claimed.more:
        return False
    if _kind(claimed.events[0].workflow_id) is WorkflowKind.SINGLE:
        return True
    return max(shares) >= max(2 * min(shares), min(shares) + 2)


def _kind(workflow_id: str) -> WorkflowKind:
    return WorkflowKind.BATCH if workflow_id.startswith(BATCH_PREFIX) else WorkflowKind.SINGLE
