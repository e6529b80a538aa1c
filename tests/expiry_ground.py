"""Scanning for tests: a database, Temporal, and a worker that scans and delivers nothing."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.expiry import ExpiryActivities, NoticeWriter
from domain.expiry.calendar_days import day_start, local_day
from domain.expiry.rows import EVENT_NAMES, Kind
from domain.timestamps import utc_text, zone
from storage.database import Database
from storage.events.outbox import OutboxNotifier
from storage.expiry.due import DueSource, StoredDue
from storage.expiry.rows import identity_of, newest, records_of, upsert_records
from storage.sealing import Sealer
from temporal.messages import ExpiryRun
from temporal.schedules import ExpirySchedules
from tests.expiry import INSTANTS, row
from tests.ground import EVENT_WITH_BODY, STORE, Ground
from workflows.expiry import ExpiryRunWorkflow, ExpiryScanWorkflow

SEALER = Sealer([Fernet.generate_key().decode()])


@dataclass
class ExpiryGround(Ground):
    """Rows that expire, scans of them, and the events that came of it."""

    sealer: Sealer = SEALER

    async def clear(self) -> None:
        """Empty the tables, stores included."""
        await self.execute(
            "TRUNCATE event, delivery, expiry_scan, expiry_coverage, point_transfer, member_level, issued_coupon, audit"
        )
        await self.execute("DELETE FROM store")

    async def settings(self, store: str = STORE, **columns: Any) -> None:
        """Change columns of the store."""
        changes = ", ".join(f"{name} = :{name}" for name in columns)
        await self.execute(f"UPDATE store SET {changes} WHERE code = :code", code=store, **columns)

    async def put(self, kind: Kind, instants: Iterable[datetime], store: str = STORE, **changes: Any) -> list[UUID]:
        """Write rows that expire at these instants; their ids."""
        rows = [row(kind, **{INSTANTS[kind]: utc_text(instant), **changes}) for instant in instants]
        records = records_of(kind, newest(rows), self.sealer)
        async with self.database.transaction() as connection:
            await upsert_records(connection, store, kind, records)
        return [identity_of(one) for one in rows]

    async def events(self, kind: Kind = Kind.POINTS, store: str = STORE) -> list[str]:
        """Of each notice, in the order of emission, when what it is of expires; of points, since others may not say."""
        rows = await self.execute(
            f"SELECT data::json->>'pointsWillExpire' FROM {EVENT_WITH_BODY} WHERE store_code = :store AND name = :name "
            "ORDER BY sequence",
            store=store,
            name=EVENT_NAMES[kind],
        )
        return [found[0] for found in rows]

    async def count(self, kind: Kind = Kind.POINTS, store: str = STORE) -> int:
        """How many notices there are."""
        return len(await self.events(kind, store))

    async def scans(self, kind: Kind = Kind.POINTS, store: str = STORE) -> list[Any]:
        """All scans, oldest first."""
        return await self.execute(
            "SELECT * FROM expiry_scan WHERE store_code = :store AND kind = :kind ORDER BY started_at",
            store=store,
            kind=kind,
        )


def activities_of(
    ground: ExpiryGround,
    *,
    source: DueSource | None = None,
    late_notices: bool = True,
    days_back: int = 7,
    **limits: Any,
) -> ExpiryActivities:
    """The activities over the ground's database; `limits`: page_rows, slice_seconds."""
    source = source or StoredDue(ground.database, ground.sealer)
    writer = NoticeWriter(ground.database, source, ground.sealer, OutboxNotifier(ground.database))
    return ExpiryActivities(ground.database, source, writer, late_notices=late_notices, days_back=days_back, **limits)


@dataclass
class Scanning(ExpiryGround):
    """The same with Temporal and a worker."""

    environment: WorkflowEnvironment = field(kw_only=True)
    task_queue: str = field(default_factory=lambda: f"test-{uuid4()}", kw_only=True)

    @property
    def client(self) -> Client:
        """Temporal's client."""
        return self.environment.client

    @property
    def schedules(self) -> ExpirySchedules:
        """The schedules, as the worker's task queue has them."""
        return ExpirySchedules(self.client, task_queue=self.task_queue, local_hour=6)

    async def run(self, kind: Kind = Kind.POINTS, store: str = STORE) -> dict[str, Any]:
        """What a schedule does when it is due; its result."""
        with self.environment.auto_time_skipping_disabled():  # or it may skip to the run's time-out, ten years away
            summary: dict[str, Any] = await self.client.execute_workflow(
                "run-expiry-schedule",
                ExpiryRun(store, kind),
                id=f"expiry/{store}/{kind}-{uuid4()}",
                task_queue=self.task_queue,
            )
        return summary

    async def scan(self, day: date, kind: Kind = Kind.POINTS, store: str = STORE) -> dict[str, Any]:
        """Scan a day by hand; the result."""
        with self.environment.auto_time_skipping_disabled():
            workflow_id = await self.schedules.scan_day(store, kind, day)
            result: dict[str, Any] = await self.client.get_workflow_handle(workflow_id).result()
        return result


@asynccontextmanager
async def scanning(url: str, environment: WorkflowEnvironment, **options: Any) -> AsyncIterator[Scanning]:
    """A worker that scans, until the block ends. `options`: those of `activities_of`."""
    database = Database(url, pool_size=6)
    running = Scanning(database, environment=environment)
    activities = activities_of(running, **options)
    try:
        await running.clear()
        await running.add_store()
        async with Worker(
            environment.client,
            task_queue=running.task_queue,
            workflows=[ExpiryRunWorkflow, ExpiryScanWorkflow],
            activities=[activities.plan_scans, activities.open_scan, activities.scan],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            yield running
    finally:
        await database.close()


class Calendar:
    """Days of a zone, counted from today by the clock of the Temporal server."""

    def __init__(self, environment: WorkflowEnvironment, timezone: str = "UTC") -> None:
        self._environment = environment
        self.zone = zone(timezone)

    async def today(self) -> date:
        """The zone's date now."""
        return local_day((await self._environment.get_current_time()).astimezone(UTC), self.zone)

    async def noon(self, days: int) -> datetime:
        """Noon of a day so many days from today."""
        return day_start(await self.today() + timedelta(days=days), self.zone) + timedelta(hours=12)

    async def until_morning(self, days: int = 1) -> None:
        """Let time pass until six o'clock of a day so many days from today."""
        morning = day_start(await self.today() + timedelta(days=days), self.zone) + timedelta(hours=6)
        now = (await self._environment.get_current_time()).astimezone(UTC)
        await self._environment.sleep(morning - now)
