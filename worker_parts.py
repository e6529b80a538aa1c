"""Parts of a worker, built from the settings. Parts with resources are context managers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from temporalio.client import Client

from activities.draft_test import DraftTestActivities
from activities.expiry import ExpiryActivities, NoticeWriter
from activities.notices import NoticeActivities
from activities.retention import RetentionActivities
from domain.delivery.breaker import BreakerRules
from domain.retention import RetentionRules
from domain.urls.rules import UrlRules
from sending.dispatcher import Dispatcher
from sending.http.client import Sender, SenderSettings
from sending.mail import MailSettings
from settings import Settings
from storage.database import Database
from storage.events.notification import OutboxNotifier
from storage.expiry.sources import open_source
from storage.sealing import Sealer
from temporal.expiry_schedules import ExpirySchedules
from temporal.schedule_sync import ScheduleMaintenance


def breaker_rules(settings: Settings) -> BreakerRules:
    """Return the rules of the circuit breaker."""
    return BreakerRules(
        failures=settings.breaker_failures,
        first_probe_seconds=settings.breaker_first_probe_seconds,
        longest_probe_seconds=settings.breaker_longest_probe_seconds,
    )


def url_rules(settings: Settings) -> UrlRules:
    """Return the URLs that this installation sends to."""
    return UrlRules(
        allow_http=settings.allow_http,
        allowed_ports=frozenset(settings.allowed_ports) or None,
        allowed_networks=settings.allowed_networks,
    )


def sender_settings(settings: Settings) -> SenderSettings:
    """Return the settings of the HTTP client."""
    return SenderSettings(
        rules=url_rules(settings),
        user_agent=settings.user_agent,
        timeout_seconds=settings.request_timeout_seconds,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
        client_cert=str(settings.client_certificate) if settings.client_certificate else None,
    )


def mail_settings(settings: Settings) -> MailSettings | None:
    """Return the settings of the mail server, or None if there is none."""
    if settings.smtp_host is None or settings.smtp_sender is None:
        return None
    return MailSettings(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        sender=settings.smtp_sender,
        recipients=settings.smtp_recipients,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
    )


@asynccontextmanager
async def noticing(settings: Settings, database: Database) -> AsyncIterator[NoticeActivities]:
    """Open the activities of operator notices, with connections of their own."""
    sealer = Sealer(settings.plain_encryption_keys)
    async with Sender(sender_settings(settings)) as sender:
        yield NoticeActivities(
            database,
            sender,
            sealer,
            url_rules(settings),
            settings.notice_retry_schedule_seconds,
            mail_settings(settings),
        )


@asynccontextmanager
async def testing(settings: Settings, database: Database, dispatcher: Dispatcher) -> AsyncIterator[DraftTestActivities]:
    """Open the activities of webhook tests. Tests of drafts have connections of their own."""
    async with Sender(sender_settings(settings)) as sender:
        yield DraftTestActivities(database, dispatcher, sender)


@asynccontextmanager
async def beside_delivery(
    settings: Settings, database: Database, dispatcher: Dispatcher
) -> AsyncIterator[list[Callable[..., Any]]]:
    """Open the activities beside the delivery of events: expiry scans, operator notices, retention, webhook tests."""
    async with (
        expiring(settings, database) as expiry,
        noticing(settings, database) as notices,
        retaining(settings) as retention,
        testing(settings, database, dispatcher) as draft_tests,
    ):
        yield [
            *(expiry.plan_scans, expiry.open_scan, expiry.scan, notices.send_notices),
            *(retention.make_days, retention.thin_oldest_day, retention.forget_event_ids),
            draft_tests.send_draft_test,
        ]


@asynccontextmanager
async def expiring(settings: Settings, database: Database) -> AsyncIterator[ExpiryActivities]:
    """Open the activities of expiry scans, with the connections they need."""
    sealer = Sealer(settings.plain_encryption_keys)
    async with AsyncExitStack() as closing:
        notifier = OutboxNotifier(database)
        closing.push_async_callback(notifier.close)
        source = await closing.enter_async_context(
            open_source(database, sealer, settings.expiry_asyncpg_url, settings.expiry_statement_timeout_seconds)
        )
        yield ExpiryActivities(
            database,
            source,
            NoticeWriter(database, source, sealer, notifier),
            late_notices=settings.expiry_late_notices,
            days_back=settings.expiry_days_back,
        )


@asynccontextmanager
async def retaining(settings: Settings) -> AsyncIterator[RetentionActivities]:
    """Open the activities of retention, with a connection of their own that has no statement timeout."""
    database = Database(settings.sqlalchemy_url, pool_size=1, name="loyalty-webhooks retention")
    rules = RetentionRules(settings.retention_days, settings.retention_exhausted_days, settings.event_id_days)
    try:
        yield RetentionActivities(database, rules)
    finally:
        await database.close()


def schedule_maintenance(settings: Settings, database: Database, client: Client) -> ScheduleMaintenance:
    """Build the maintenance of the schedules."""
    return ScheduleMaintenance(
        database,
        ExpirySchedules(client, task_queue=settings.task_queue, local_hour=settings.expiry_local_hour),
        late_notices=settings.expiry_late_notices,
        reads_all=settings.expiry_database_url is not None,
    )
