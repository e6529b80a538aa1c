"""Resources of the API's handlers, built once per process and closed in reverse order."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client

from api.events.backlog import BacklogGauge
from api.events.intake import Intake
from api.events.service import EventReader
from api.login.principals import Principals, Tokens
from api.login.throttle import LoginThrottle
from api.operations.metrics import ApiMetrics, InstallationGauge
from api.schedules.sync import ScheduleSync
from api.subscriptions.url_check import Lookup, UrlCheck
from settings import Settings
from storage.access.passwords import Passwords
from storage.database import Database
from storage.events.outbox import OutboxNotifier
from storage.expiry.due import DueSource, open_source
from storage.sealing import Sealer
from temporal.client import temporal_client
from temporal.schedules import ExpirySchedules
from temporal.starts import ActionStarts

STATEMENT_SECONDS = 60.0
"""Timeout of a statement. Counting the events of months takes half a minute; after it the connection counts as dead."""


@dataclass(frozen=True)
class Resources:
    """Everything a handler may need in addition to its request."""

    settings: Settings
    database: Database
    sealer: Sealer
    temporal: Client
    """Connects at its first call and reconnects after an outage; a call during an outage raises `RPCError`."""
    starts: ActionStarts
    url_check: UrlCheck
    passwords: Passwords
    tokens: Tokens
    principals: Principals
    login_throttle: LoginThrottle
    metrics: ApiMetrics
    backlog: BacklogGauge
    installation: InstallationGauge
    event_reader: EventReader
    intake: Intake
    schedules: ExpirySchedules
    schedule_sync: ScheduleSync
    due_source: DueSource


@asynccontextmanager
async def open_resources(
    settings: Settings, metrics: ApiMetrics, lookup: Lookup | None = None
) -> AsyncIterator[Resources]:
    """Build the resources; neither database nor Temporal need to be up. `lookup` resolves names for URL checks."""
    tokens = Tokens([secret.get_secret_value() for secret in settings.jwt_secrets], settings.access_token_seconds)
    sealer = Sealer(settings.plain_encryption_keys)
    proxy_resolves = settings.egress_proxy_url is not None and settings.egress_proxy_resolves
    async with AsyncExitStack() as closing:
        temporal = await temporal_client(lazy=True, payload_keys=settings.plain_payload_keys)
        schedules = ExpirySchedules(temporal, task_queue=settings.task_queue, local_hour=settings.expiry_local_hour)
        database = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            name="loyalty-webhooks api",
            statement_seconds=STATEMENT_SECONDS,
        )
        metrics.pool.watch(database.pool.checkedout, database.pool.size())
        notifier = OutboxNotifier(database)
        backlog = BacklogGauge(database, settings.backlog_limit_events)
        installation = InstallationGauge(database)
        intake = Intake(database, sealer, notifier, backlog, metrics)
        schedule_sync = ScheduleSync(database, schedules)
        for resource in (database, notifier, backlog, installation, intake, schedule_sync):
            closing.push_async_callback(resource.close)
        due_source = await closing.enter_async_context(
            open_source(database, sealer, settings.expiry_asyncpg_url, settings.expiry_statement_timeout_seconds)
        )
        yield Resources(
            settings=settings,
            database=database,
            sealer=sealer,
            temporal=temporal,
            starts=ActionStarts(temporal, settings.task_queue),
            url_check=UrlCheck(settings.url_rules, lookup, settings.egress_no_proxy if proxy_resolves else None),
            passwords=Passwords(),
            tokens=tokens,
            principals=Principals(database, tokens),
            login_throttle=LoginThrottle(),
            metrics=metrics,
            backlog=backlog,
            installation=installation,
            event_reader=EventReader(sealer, settings),
            intake=intake,
            schedules=schedules,
            schedule_sync=schedule_sync,
            due_source=due_source,
        )


def resources_of(request: Request) -> Resources:
    """Return the process's resources. What every request depends on calls this: a dependency costs 30 µs of each."""
    found: Resources = request.app.state.resources
    return found


async def _resources(request: Request) -> Resources:
    return resources_of(request)


FromResources = Annotated[Resources, Depends(_resources)]
"""The process's resources, as a dependency."""
