"""The relay: takes events from the outbox and starts their workflows, by name, under ids that are committed first, or
follow from the event where it came alone.

When quiet, each event starts a workflow of its own at once. Under backlog one workflow takes up to several hundred
events, since a workflow costs some 35 ms of CPU and an event in a batch a fraction of one. Stores take turns, and those
that have few events waiting do not wait behind the batches of those that have many.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import batch_workflow_id
from relay.backpressure import Gate, Way
from relay.batching import FEW_EVENTS, FULL, Pace
from relay.prefetch import EventsAhead
from storage.database import Database
from storage.events.outbox import OUTBOX_CHANNEL, Claim, ClaimedEvent, Room, claim, claim_lapsed, named_event
from storage.events.single_events import claim_few
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_metrics import WorkerMetrics
from temporal.messages import EventBatch, EventRef
from temporal.visibility import event_summary, memo, search_attributes

logger = logging.getLogger(__name__)

LAPSED_CHECK_SECONDS = 1.0
"""How often claims are looked for whose workflow never took its events."""

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=5)
"""A worker killed during first attempts is noticed after this; longer first attempts keep their workflow task alive."""

START_TIMEOUT = timedelta(seconds=5)
"""A start answered later than this is asked for again, under the same id."""

NAMED_SECONDS = 1.0
"""A claim that comes later than that starts its event's workflow once more."""

CLAIM_NAMED_SECONDS = 0.002
"""After which an event is claimed whose workflow is being started: beside the start, the claim would take the second of
two cores from what sends it, for half a millisecond. It is mostly done before Temporal answers, and need not be."""

OTHERS_SECONDS = 0.05
"""After which a relay looks for an event that was another's to take up."""

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


class Relay:
    """One per worker process; several run side by side. `run` returns after `stop`."""

    def __init__(
        self,
        database: Database,
        client: Client,
        gate: Gate,
        settings: RelaySettings,
        metrics: WorkerMetrics,
        ahead: EventsAhead,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._database = database
        self._client = client
        self._gate = gate
        self._settings = settings
        self._metrics = metrics
        self._traces = traces
        self._ahead = ahead
        self._pace = Pace()
        self._after = {Way.MIXED: "", Way.BATCH: ""}
        self._left = {Way.MIXED: False, Way.BATCH: False}
        """Whether a claim since the one of the first stores may have left some of their events."""
        self._wake = {Way.MIXED: asyncio.Event(), Way.BATCH: asyncio.Event()}
        gate.on_room = lambda way: self._wake[Way.BATCH if way is Way.BATCH else Way.MIXED].set()
        self.is_for_me: Callable[[UUID], bool] = lambda _: True
        """Whether this relay takes up an event that came alone."""
        self._named: dict[str, float] = {}
        """Workflows started for events that were named, whose claim is on its way, and since when."""
        self.starts_here = True
        """Whether this worker may run the first task of what it starts, without a hop over Temporal's queue: not one
        whose version is not the current one, since Temporal would give it the task all the same."""
        self._stopping = False
        self._starts: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Claim no more; what is claimed is still started, unless Temporal is away."""
        self._stopping = True
        for wake in self._wake.values():
            wake.set()

    async def run(self) -> None:
        """Hand over until stopped. Raises what made a part of the relay fail: it does not go on without it."""
        parts = [asyncio.create_task(part()) for part in (self._quiet, self._busy, self._watch_lapsed, self._listen)]
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

    async def _quiet(self) -> None:
        """Hand over what quiet stores have waiting, beside what the busy ones have and never behind it."""
        await self._rounds(Way.MIXED, self._room_for_quiet)

    async def _busy(self) -> None:
        await self._rounds(Way.BATCH, self._room_for_busy)

    async def _rounds(self, way: Way, room: Callable[[float], Room]) -> None:
        while not self._stopping:
            try:
                await self._round(way, room)
            except DATABASE_FAULTS as error:
                logger.warning("outbox not read: %s", type(error).__name__)
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _round(self, way: Way, room_at: Callable[[float], Room]) -> None:
        self._wake[way].clear()
        now = time.monotonic()
        room = room_at(now)
        more, busy = False, True
        if room.singly or room.mixed_room or room.batch_room:
            claimed = await self._claim(way, room)
            self._hand_over(claimed.events, mixed=room.mixed)
            left = self._left[way] or len(claimed.events) >= FULL * self._settings.batch_events
            more = left or bool(claimed.after)
            self._left[way] = left and bool(claimed.after)
            busy = claimed.busy
        if busy and way is Way.MIXED:
            self._wake[Way.BATCH].set()
        if not more:  # what is committed after the claim rings again
            await self._sleep(way, self._pace.lingers(way, now) or self._pace.spares(way, now))

    def _room_for_quiet(self, now: float) -> Room:
        singly = self._gate.room(Way.SINGLE)
        if self._settings.batch_events == 1:  # all stores alike, and no batches
            return Room(few=0, singly=0, mixed_room=0, mixed="", batch_room=singly, batch=None)
        return Room(
            few=FEW_EVENTS,
            singly=min(singly, self._pace.singles(now)),
            mixed_room=self._batch_room(Way.MIXED, now),
            mixed=batch_workflow_id(uuid4()),
            batch_room=0,
            batch="",
            busy=self._pace.busy_stores(now),
        )

    def _room_for_busy(self, now: float) -> Room:
        most = self._batch_room(Way.BATCH, now)
        batch, busy = batch_workflow_id(uuid4()), self._pace.busy_stores(now)
        return Room(FEW_EVENTS, singly=0, mixed_room=0, mixed="", batch_room=most, batch=batch, busy=busy)

    def _batch_room(self, way: Way, now: float) -> int:
        most = self._settings.batch_events
        share = self._pace.share(way, now)
        left_free = 1 if share < 1 else 0
        if most == 1 or self._gate.room(way) <= left_free or self._pace.lingers(way, now):
            return 0
        return ceil(most * share)

    async def _claim(self, way: Way, room: Room) -> Claim:
        with self._metrics.claim_seconds.time():
            claimed = await self._claim_few(room) if room.singly and not room.busy and not self._after[way] else None
            if claimed is None:
                async with self._database.single_statements() as connection:
                    lease = self._settings.claim_lease_seconds
                    claimed = await claim(connection, room, after=self._after[way], lease_seconds=lease)
        self._after[way] = claimed.after
        return claimed

    async def _claim_few(self, room: Room) -> Claim | None:
        lease = self._settings.claim_lease_seconds
        few = await claim_few(self._database.quick, min(room.singly, room.few), lease_seconds=lease)
        if few is None:
            return None
        self._ahead.keep(few.ahead)
        return Claim(few.events, after="", busy=False)

    async def _sleep(self, way: Way, held_back: float) -> None:
        """Until there may be more to hand over, but no longer than batches are held back or a lost notification may
        cost."""
        poll = self._settings.poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(min(held_back or poll, poll)):
                await self._wake[way].wait()

    def _hand_over(self, claimed: Sequence[ClaimedEvent], *, mixed: str = "") -> None:
        """Start the workflows of what was claimed, without waiting for Temporal's answer."""
        workflows: dict[str, list[ClaimedEvent]] = defaultdict(list)
        for event in claimed:
            workflows[event.workflow_id].append(event)
        now = time.monotonic()
        for workflow_id, events in workflows.items():
            if now - self._named.pop(workflow_id, -NAMED_SECONDS) < NAMED_SECONDS or workflow_id in self._starts:
                continue  # it was named; or its claim lapsed while Temporal is away: it is being started still
            batch = workflow_id.startswith("events/")
            way = Way.SINGLE if not batch else Way.MIXED if workflow_id == mixed else Way.BATCH
            self._pace.took(way, now, full=len(events) >= FULL * self._settings.batch_events)
            self._metrics.handed_over.labels("batch" if batch else "single").inc(len(events))
            stores = Counter(event.store_code for event in events)
            for store_code, count in stores.items():
                self._pace.took_of(store_code, count)
            self._gate.handed_over(workflow_id, way, stores)
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
                "deliver-events",
                EventBatch(events),
                id=workflow_id,
                task_queue=self._settings.task_queue,
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                request_eager_start=self.starts_here,
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
                    lapsed = await claim_lapsed(
                        connection,
                        singles=self._gate.room_again(Way.SINGLE),
                        batches=self._gate.room_again(Way.BATCH),
                        lease_seconds=self._settings.claim_lease_seconds,
                    )
            except DATABASE_FAULTS as error:
                logger.warning("lapsed claims not read: %s", type(error).__name__)
                continue
            if lapsed:
                logger.info("%d claimed events were not taken in time, handing them over again", len(lapsed))
                self._hand_over(lapsed)

    def _heard(self, payload: str) -> None:
        """Events were committed. One that came alone is named: one relay takes it up, and the others see a moment later
        whether it has, since it may be about to stop."""
        event = named_event(payload)
        if event is not None and not self.is_for_me(event.event_id):
            asyncio.get_running_loop().call_later(OTHERS_SECONDS, self._wake[Way.MIXED].set)
            return
        if event is not None and self._start_named(event):
            asyncio.get_running_loop().call_later(CLAIM_NAMED_SECONDS, self._wake[Way.MIXED].set)
            return
        self._wake[Way.MIXED].set()

    def _start_named(self, event: ClaimedEvent) -> bool:
        """Start its workflow under the id that its claim will commit, a moment later: the claim takes a millisecond,
        Temporal five. Whatever comes of the claim, the match takes the event once. False when it is to be claimed at
        once, as others are."""
        now = time.monotonic()
        self._named = {one: since for one, since in self._named.items() if now - since < NAMED_SECONDS}
        needed = 2 * len(self._named) + 2  # one for each start, and one more for each claim to be single too
        quiet = min(self._gate.room(Way.SINGLE), self._pace.singles(now)) >= needed
        if quiet and not self._stopping and self._settings.batch_events > 1 and not self._pace.busy_stores(now):
            self._hand_over([event])
            self._named[event.workflow_id] = now
            return True
        return False

    async def _listen(self) -> None:
        """Keep a connection that is notified of new events; without it the polling goes on."""
        while True:
            try:
                connection = await self._database.listener()
                closed = asyncio.Event()
                connection.add_termination_listener(lambda _, closed=closed: closed.set())
                await connection.add_listener(OUTBOX_CHANNEL, lambda *heard: self._heard(heard[-1]))
                try:
                    await closed.wait()
                finally:
                    connection.terminate()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                logger.warning("not listening for new events: %s", type(error).__name__)
            await asyncio.sleep(FAULT_PAUSE_SECONDS)
