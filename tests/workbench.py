"""The parts of a worker without Temporal: activities, dispatcher, recorder and sender on a real database.

async with workbench(database_url) as bench:
    await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
    event_ids = await bench.emit("CustomerUpdated", "{}", count=3)
    first = await bench.attempt_events(event_ids)
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from temporalio.testing import ActivityEnvironment

import worker
from activities.deliver import DeliveryActivities
from activities.retry import RetryActivities
from relay.backpressure import Backpressure
from sending.dispatcher import Dispatcher
from sending.lease import lease
from settings import Settings
from storage.database import Database
from storage.deliveries.open import OpenDelivery, load
from storage.deliveries.retries import WaitingRetry
from storage.deliveries.transitions import own_retries
from storage.sealing import Sealer
from telemetry.worker_metrics import WorkerMetrics
from temporal.drains import Drains
from temporal.messages import DeliveryEnd, DeliveryRef, EventBatch, EventRef, FirstAttempts, ManualAttempt
from temporal.retries import Retries
from tests.ground import Ground
from tests.pipeline import settings_for


@dataclass
class Workbench(Ground):
    """One worker's parts."""

    settings: Settings
    worker_id: UUID
    dispatcher: Dispatcher
    activities: DeliveryActivities
    retry: RetryActivities
    writing: asyncio.Task[None]
    metrics: WorkerMetrics
    woken: list[UUID]
    """Subscriptions whose drains were to be woken."""
    started: list[WaitingRetry]
    """Retries whose activities were to be started."""

    async def refs(self, event_ids: Sequence[UUID]) -> list[EventRef]:
        """References to events, as the relay makes them."""
        rows = await self.execute(
            "SELECT store_code, event_id, name FROM event WHERE event_id = ANY(:ids) ORDER BY sequence",
            ids=list(event_ids),
        )
        return [EventRef(row.store_code, str(row.event_id), row.name) for row in rows]

    async def attempt_events(self, event_ids: Sequence[UUID]) -> FirstAttempts:
        """The activity of that name, as a workflow asks for it."""
        batch = EventBatch(await self.refs(event_ids))
        result: FirstAttempts = await ActivityEnvironment().run(self.activities.attempt_events, batch)
        return result

    async def waiting(self) -> list[UUID]:
        """Message ids of the deliveries that a first attempt left pending, oldest event first."""
        rows = await self.execute(
            "SELECT message_id FROM delivery WHERE status = 'pending' ORDER BY event_sequence, message_id"
        )
        return [row.message_id for row in rows]

    async def schedule_retries(self, event_ids: Sequence[UUID]) -> list[WaitingRetry]:
        """The activity of that name; the activities it started."""
        batch = EventBatch(await self.refs(event_ids))
        before = len(self.started)
        await ActivityEnvironment().run(self.retry.schedule_retries, batch)
        return self.started[before:]

    async def deliver_webhook(
        self,
        message_id: UUID,
        *,
        due: bool = True,
        retry_id: str | None = None,
        clock_ahead: timedelta = timedelta(),
        environment: ActivityEnvironment | None = None,
    ) -> DeliveryEnd:
        """The activity of that name, as Temporal runs it; `due`: at the instant of the retry, whenever that is."""
        retry_id = retry_id or await self._retry_id(message_id)
        if due:
            await self.execute(
                "UPDATE delivery SET next_attempt_at = clock_timestamp(), "
                "not_before = CASE WHEN not_before IS NOT NULL THEN clock_timestamp() END "
                "WHERE message_id = :id AND next_attempt_at IS NOT NULL",
                id=message_id,
            )
        environment = environment or ActivityEnvironment()
        environment.info = replace(environment.info, activity_id=retry_id, started_time=datetime.now(UTC) + clock_ahead)
        result: DeliveryEnd = await environment.run(self.retry.deliver_webhook, DeliveryRef(str(message_id)))
        return result

    async def _retry_id(self, message_id: UUID) -> str:
        """The id of the delivery's activity. A row whose outcome is being written has none for that moment."""
        while True:
            async with self.database.transaction() as connection:
                if owned := await own_retries(connection, [message_id]):
                    return owned[0].retry_id
            if message_id not in await self.waiting():
                return f"{message_id}/0"

    async def attempt_once(self, message_id: UUID, action: str, *, recorded: int | None = None) -> DeliveryEnd:
        """The activity of that name: one attempt that a person asked for, when so many were recorded (now)."""
        if recorded is None:
            recorded = (await self.load(message_id)).recorded
        attempt = ManualAttempt(str(message_id), action, "receiver/", recorded)
        result: DeliveryEnd = await ActivityEnvironment().run(self.retry.attempt_once, attempt)
        return result

    async def load(self, message_id: UUID) -> OpenDelivery:
        """A delivery as an attempt finds it."""
        async with self.database.transaction() as connection:
            delivery = await load(connection, message_id)
        assert delivery is not None
        return delivery

    def sealer(self) -> Sealer:
        """What the worker opens its secrets with."""
        return Sealer(self.settings.plain_encryption_keys)

    async def die(self) -> None:
        """Let the leases lapse, as of a worker that has not been seen for a minute."""
        await self.execute(
            "UPDATE worker SET seen_at = clock_timestamp() - interval '1 minute' WHERE id = :id", id=self.worker_id
        )


class NotedDrains(Drains):
    """Notes whose drain would be woken: a bench has no Temporal."""

    def __init__(self) -> None:
        self.woken: list[UUID] = []

    async def wake(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        self.woken.append(subscription_id)

    async def probe_now(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        self.woken.append(subscription_id)


class NotedRetries(Retries):
    """Notes which activities would be started: a bench has no Temporal."""

    def __init__(self) -> None:
        self.started: list[WaitingRetry] = []

    async def start_all(self, waiting: Iterable[WaitingRetry]) -> int:
        self.started += waiting
        return 0


@asynccontextmanager
async def workbench(database_url: str, *, leased: bool = True, **overrides: Any) -> AsyncIterator[Workbench]:
    """A worker's parts until the block ends; `leased` False: one that is never seen alive."""
    settings = settings_for(database_url, **overrides)
    worker_id = uuid4()
    metrics = WorkerMetrics()
    async with AsyncExitStack() as resources:
        database = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            statement_seconds=worker.STATEMENT_SECONDS,
        )
        resources.push_async_callback(database.close)
        await Ground(database).add_store()
        if leased:
            await resources.enter_async_context(lease(settings.database_url.get_secret_value(), worker_id))
        sending = worker.sending(settings, database, worker_id, metrics)
        dispatcher, writing = await resources.enter_async_context(sending)
        drains = NotedDrains()
        retries = NotedRetries()
        activities = DeliveryActivities(database, dispatcher, Backpressure(), drains)
        retry = RetryActivities(database, dispatcher, drains, retries)
        yield Workbench(
            *(database, settings, worker_id, dispatcher, activities, retry, writing, metrics),
            *(drains.woken, retries.started),
        )
