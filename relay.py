"""The relay: takes events from the outbox and starts their workflows, by name, under ids that are committed first.

When quiet, each event starts a workflow of its own at once. Under backlog one workflow takes up to several hundred
events, since a workflow costs some 35 ms of CPU and an event in a batch a fraction of one.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.gate import Gate
from activities.messages import EventBatch, EventRef, EventTask
from activities.metrics import WorkerMetrics
from domain.identity import batch_workflow_id
from storage.database import Database
from storage.outbox import OUTBOX_CHANNEL, ClaimedEvent, claim, claim_lapsed
from tracing import NO_TRACES, Traces
from workflows.visibility import event_summary, memo, search_attributes

logger = logging.getLogger(__name__)

SINGLES_PER_SECOND = 25.0
"""Events that may have a workflow each: at 35 ms of CPU that is under half of two cores."""

SINGLES_BURST = 10.0
"""How many may come at once before batches begin."""

LINGER_SECONDS = 0.1
"""Between two batches that are not full: ten workflows a second at most, whatever the rate."""

LAPSED_CHECK_SECONDS = 1.0
"""How often claims are looked for whose workflow never took its events."""

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=5)
"""A worker killed during first attempts is noticed after this; longer first attempts keep their workflow task alive."""

START_TIMEOUT = timedelta(seconds=5)
"""A start answered later than this is asked for again, under the same id."""

STOP_SECONDS = 2.0
"""What is being started when the relay is asked to stop gets so long; the rest is started by another relay."""

DATABASE_FAULTS = (SQLAlchemyError, OSError, TimeoutError)
"""What passes by itself; anything else is a mistake of ours and ends the relay, and with it the worker."""

FAULT_PAUSE_SECONDS = 0.5
"""Between tries while database or Temporal are away."""


@dataclass(frozen=True)
class RelaySettings:
    """`batch_events` 1 switches batches off; `poll_seconds` bounds the delay after a lost notification."""

    task_queue: str
    batch_events: int
    poll_seconds: float
    claim_lease_seconds: float


class Pace:
    """How many events may be handed over singly, and when the next batch may go (seconds on a monotonic clock)."""

    def __init__(self) -> None:
        self._tokens = SINGLES_BURST
        self._refilled_at = time.monotonic()
        self._next_batch_at = 0.0

    def singles(self, now: float) -> int:
        """Whole tokens at hand."""
        self._tokens = min(SINGLES_BURST, self._tokens + (now - self._refilled_at) * SINGLES_PER_SECOND)
        self._refilled_at = now
        return int(self._tokens)

    def linger(self, now: float) -> float:
        """Seconds to let events gather before the next batch."""
        return max(0.0, self._next_batch_at - now)

    def took_singles(self, count: int) -> None:
        """Use up tokens."""
        self._tokens = max(0.0, self._tokens - count)

    def took_batch(self, now: float, *, full: bool) -> None:
        """After a full batch the next may follow at once: there is a backlog."""
        self._next_batch_at = now if full else now + LINGER_SECONDS


class Relay:
    """One per worker process; several run side by side. `run` returns after `stop`."""

    def __init__(
        self,
        database: Database,
        client: Client,
        gate: Gate,
        settings: RelaySettings,
        metrics: WorkerMetrics,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._database = database
        self._client = client
        self._gate = gate
        self._settings = settings
        self._metrics = metrics
        self._traces = traces
        self._pace = Pace()
        self._wake = asyncio.Event()
        self._stopping = False
        self._starts: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Claim no more; what is claimed is still started, unless Temporal is away."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Hand over until stopped. Raises what made a part of the relay fail: it does not go on without it."""
        parts = [asyncio.create_task(part()) for part in (self._relay, self._watch_lapsed, self._listen)]
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

    async def _relay(self) -> None:
        while not self._stopping:
            try:
                await self._round()
            except DATABASE_FAULTS as error:
                logger.warning("outbox not read: %s", type(error).__name__)
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _round(self) -> None:
        if not await self._gate.open():
            return
        singly = self._singly()
        if singly == 0 and (linger := self._pace.linger(time.monotonic())):
            await asyncio.sleep(linger)
        self._wake.clear()
        claimed = await self._claim(singly)
        if claimed:
            self._hand_over(claimed)
        else:
            await self._sleep()

    def _singly(self) -> int:
        free = self._gate.free_singles()
        return free if self._settings.batch_events == 1 else min(free, self._pace.singles(time.monotonic()))

    async def _claim(self, singly: int) -> Sequence[ClaimedEvent]:
        most = self._settings.batch_events
        with self._metrics.claim_seconds.time():
            return await self._claimed(most, singly)

    async def _claimed(self, most: int, singly: int) -> Sequence[ClaimedEvent]:
        async with self._database.single_statements() as connection:
            return await claim(
                connection,
                most=singly if most == 1 else most,
                singly=singly,
                batch_workflow_id=batch_workflow_id(uuid4()),
                lease_seconds=self._settings.claim_lease_seconds,
            )

    async def _sleep(self) -> None:
        """Until a notification, or the poll that makes up for a lost one."""
        try:
            async with asyncio.timeout(self._settings.poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _hand_over(self, claimed: Sequence[ClaimedEvent]) -> None:
        """Start the workflows of what was claimed, without waiting for Temporal's answer."""
        workflows: dict[str, list[ClaimedEvent]] = defaultdict(list)
        for event in claimed:
            workflows[event.workflow_id].append(event)
        now = time.monotonic()
        for workflow_id, events in workflows.items():
            if workflow_id in self._starts:
                continue  # its claim lapsed while Temporal is away: it is being started still
            batch = workflow_id.startswith("events/")
            if batch:
                self._pace.took_batch(now, full=len(events) >= self._settings.batch_events)
            else:
                self._pace.took_singles(1)
            self._metrics.handed_over.labels("batch" if batch else "single").inc(len(events))
            self._gate.handed_over(workflow_id, batch=batch)
            self._starts[workflow_id] = asyncio.create_task(self._start(workflow_id, events, batch))

    async def _start(self, workflow_id: str, claimed: Sequence[ClaimedEvent], batch: bool) -> None:
        """Start one workflow; tried until Temporal has it, or somebody else has started it, or it is refused.

        What was not started stays claimed; the claim lapses, and then this relay or another starts the same id.
        """
        events = [EventRef(event.store_code, str(event.event_id), event.name) for event in claimed]
        try:
            with self._traces.handing_over(workflow_id, (event.traceparent for event in claimed)):
                while not await self._started(workflow_id, events, batch):
                    if self._stopping:
                        self._gate.left(workflow_id)
                        return
                    await asyncio.sleep(FAULT_PAUSE_SECONDS)
        finally:
            del self._starts[workflow_id]

    async def _started(self, workflow_id: str, events: list[EventRef], batch: bool) -> bool:
        """Ask Temporal once; False when it makes sense to ask again."""
        try:
            await self._client.start_workflow(
                "deliver-events" if batch else "deliver-event",
                EventBatch(events) if batch else EventTask(events[0]),
                id=workflow_id,
                task_queue=self._settings.task_queue,
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                request_eager_start=True,
                search_attributes=search_attributes(events),
                static_summary=event_summary(events),
                memo=memo(events),
                rpc_timeout=START_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            self._gate.left(workflow_id)
        except RPCError as error:
            self._metrics.start_faults.inc()
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                logger.warning("%s not started: %s: %s", workflow_id, error.status.name, error.message)
                return False
            logger.error("Temporal refuses to start %s: %s", workflow_id, error.message)
            self._gate.left(workflow_id)
        except Exception:
            self._metrics.start_faults.inc()
            logger.exception("%s not started", workflow_id)
            self._gate.left(workflow_id)
        else:
            self._gate.started(workflow_id)
        return True

    async def _watch_lapsed(self) -> None:
        """Start again, under the same ids, what was claimed and never taken."""
        while True:
            await asyncio.sleep(LAPSED_CHECK_SECONDS)
            try:
                async with self._database.transaction() as connection:
                    lapsed = await claim_lapsed(connection, lease_seconds=self._settings.claim_lease_seconds)
            except DATABASE_FAULTS as error:
                logger.warning("lapsed claims not read: %s", type(error).__name__)
                continue
            if lapsed:
                logger.info("%d claimed events were not taken in time, handing them over again", len(lapsed))
                self._hand_over(lapsed)

    async def _listen(self) -> None:
        """Keep a connection that is notified of new events; without it the polling goes on."""
        while True:
            try:
                connection = await self._database.listener()
                closed = asyncio.Event()
                connection.add_termination_listener(lambda _, closed=closed: closed.set())
                await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self._wake.set())
                try:
                    await closed.wait()
                finally:
                    connection.terminate()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                logger.warning("not listening for new events: %s", type(error).__name__)
            await asyncio.sleep(FAULT_PAUSE_SECONDS)
