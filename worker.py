"""Worker process: settings -> resources -> Temporal worker and relay, and a graceful shutdown.

The shutdown stops the claims, waits for the workflows and attempts under way, writes their outcomes, and gives up the
leases, in this order.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pkgutil import resolve_name
from typing import Any
from uuid import UUID, uuid4

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.runtime import Runtime
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from activities.actions import BulkActionActivities
from activities.deliver import DeliveryActivities
from activities.draft_test import DraftTestActivities
from activities.drain import DrainActivities
from activities.expiry import ExpiryActivities, NoticeWriter
from activities.notices import NoticeActivities, NoticeWatch
from activities.retention import RetentionActivities
from activities.retry import RetryActivities
from domain.delivery.breaker import BreakerRules
from domain.delivery.notices import DisableRules
from domain.retention import RetentionRules
from relay.backpressure import MAX_IN_FLIGHT, Backpressure, WorkflowKind
from relay.relay import Relay, RelaySettings
from sending.dispatcher import Dispatcher
from sending.http.client import Sender, SenderSettings
from sending.http.egress_proxy import EgressProxy
from sending.lease import lease
from sending.mail import MailSettings
from sending.recorder import Recorder
from sending.requests import RequestBuilder
from sending.subscription_queues import SubscriptionQueues, watch_subscriptions
from settings import Settings
from storage.database import STATEMENT_SECONDS, Database
from storage.events.outbox import OutboxNotifier
from storage.expiry.due import open_source
from storage.expiry.from_events import ExpiryFromEvents
from storage.operations.workers import LEASE_SECONDS
from storage.sealing import Sealer
from telemetry.tracing import NO_TRACES, Traces
from telemetry.worker_health import SdkMetrics, worker_health
from telemetry.worker_metrics import WorkerMetrics
from temporal.client import temporal_client
from temporal.drains import Drains
from temporal.outages import in_words
from temporal.retries import Retries, watch_overdue
from temporal.schedules import ExpirySchedules, ScheduleMaintenance, maintain_partitions
from temporal.versions import VersionRouting, deployment_version
from workflows.actions import BackfillWorkflow, RecoverWorkflow
from workflows.deliver import DeliverEventsWorkflow
from workflows.draft_test import DraftTestWorkflow
from workflows.drain import DrainWorkflow
from workflows.expiry import ExpiryRunWorkflow, ExpiryScanWorkflow
from workflows.notices import NotifyOperatorWorkflow
from workflows.retention import RetentionWorkflow

logger = logging.getLogger(__name__)

WORKFLOWS = (
    DeliverEventsWorkflow,
    DrainWorkflow,
    RecoverWorkflow,
    BackfillWorkflow,
    ExpiryRunWorkflow,
    ExpiryScanWorkflow,
    NotifyOperatorWorkflow,
    RetentionWorkflow,
    DraftTestWorkflow,
)

SHORTEST_QUEUE = 600
"""Minimum limit of the first attempts of one subscription under way in a worker. The limit is one batch more than the
relay has in flight, which leaves capacity for single events, and no less than this for small batches. Rejected first
attempts go through the drain, which costs half as much again and may start two seconds later."""

ACTIVITIES_AT_ONCE = 1000
"""Maximum number of later attempts under way or queued in one worker. Each is a coroutine; the concurrency limiter
bounds those in flight."""

CACHED_WORKFLOWS = 2000
"""Maximum number of cached workflows, at some 100 KB each. An evicted workflow is replayed from its history."""

STICKY_TIMEOUT = timedelta(seconds=LEASE_SECONDS)
"""Time for which a workflow's next task waits for the worker that has it cached, before any other takes it. It equals
the lease of a worker. With the default of ten seconds, the workflows of a dead worker would wait that long."""

HEARTBEATS_EVERY = timedelta(seconds=2)
"""Interval of heartbeats sent to Temporal, below the heartbeat time-out of 5 s (temporal/retries.py)."""

CONNECT_PAUSE_SECONDS = 0.5
"""Pause between tries to connect to Temporal at the start."""


def breaker_rules(settings: Settings) -> BreakerRules:
    """Return the rules of the circuit breaker."""
    return BreakerRules(
        settings.breaker_failures, settings.breaker_first_probe_seconds, settings.breaker_longest_probe_seconds
    )


def sender_settings(settings: Settings) -> SenderSettings:
    """Return the settings of the HTTP client."""
    return SenderSettings(
        rules=settings.url_rules,
        user_agent=settings.user_agent,
        timeout_seconds=settings.request_timeout_seconds,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
        client_cert=str(settings.client_certificate) if settings.client_certificate else None,
        proxy=egress_proxy(settings),
        transport=resolve_name(settings.http_transport) if settings.http_transport else None,
    )


def egress_proxy(settings: Settings) -> EgressProxy | None:
    """Return the proxy for deliveries, or None if there is none."""
    if settings.egress_proxy_url is None:
        return None
    url = settings.egress_proxy_url.get_secret_value()
    return EgressProxy.of(url, settings.egress_no_proxy, resolves=settings.egress_proxy_resolves)


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


def delivery_activities(
    database: Database,
    dispatcher: Dispatcher,
    backpressure: Backpressure,
    drains: Drains,
    retries: Retries,
    settings: Settings,
) -> list[Callable[..., Any]]:
    """Build the activities of delivery."""
    sealer = Sealer(settings.plain_encryption_keys)
    deliver = DeliveryActivities(database, dispatcher, backpressure, drains, ExpiryFromEvents(sealer))
    disabling = DisableRules(settings.disable_after_failing_days * 86400, settings.disable_after_deliveries)
    drain = DrainActivities(database, dispatcher, breaker_rules(settings), disabling, settings.retry_schedule_seconds)
    retry = RetryActivities(database, dispatcher, drains, retries)
    bulk_actions = BulkActionActivities(database, drains)
    return [
        *(deliver.attempt_events, retry.schedule_retries, retry.deliver_webhook, retry.attempt_once),
        *(drain.drain_held, bulk_actions.recover_pages, bulk_actions.backfill_pages),
    ]


@asynccontextmanager
async def beside_delivery(
    settings: Settings, database: Database, dispatcher: Dispatcher
) -> AsyncIterator[list[Callable[..., Any]]]:
    """Open the activities beside the delivery of events: expiry scans, operator notices, retention, webhook tests.

    Notices and tests of drafts have connections of their own to receivers, retention one to the database that has no
    statement timeout.
    """
    sealer = Sealer(settings.plain_encryption_keys)
    async with AsyncExitStack() as closing:
        notifier = OutboxNotifier(database)
        closing.push_async_callback(notifier.close)
        source = await closing.enter_async_context(
            open_source(database, sealer, settings.expiry_asyncpg_url, settings.expiry_statement_timeout_seconds)
        )
        expiry = ExpiryActivities(
            database,
            source,
            NoticeWriter(database, source, sealer, notifier),
            late_notices=settings.expiry_late_notices,
            days_back=settings.expiry_days_back,
        )
        notices = NoticeActivities(
            database,
            await closing.enter_async_context(Sender(sender_settings(settings))),
            sealer,
            settings.url_rules,
            settings.notice_retry_schedule_seconds,
            mail_settings(settings),
        )
        url = settings.database_url.get_secret_value()
        own_database = await closing.enter_async_context(Database(url, pool_size=1, name="loyalty-webhooks retention"))
        rules = RetentionRules(settings.retention_days, settings.retention_exhausted_days, settings.event_id_days)
        retention = RetentionActivities(own_database, rules)
        sender = await closing.enter_async_context(Sender(sender_settings(settings)))
        draft_tests = DraftTestActivities(database, dispatcher, sender)
        yield [
            *(expiry.plan_scans, expiry.open_scan, expiry.scan, notices.send_notices),
            *(retention.make_days, retention.thin_oldest_day, retention.forget_event_ids),
            draft_tests.send_draft_test,
        ]


def make_worker(client: Client, activities: Sequence[Callable[..., Any]], settings: Settings) -> Worker:
    """Build the Temporal worker with all workflows and these activities."""
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=list(WORKFLOWS),
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=CACHED_WORKFLOWS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        max_concurrent_activities=ACTIVITIES_AT_ONCE,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_heartbeat_throttle_interval=HEARTBEATS_EVERY,
        default_heartbeat_throttle_interval=HEARTBEATS_EVERY,
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
        deployment_config=deployment(settings),
    )


def version_of(settings: Settings) -> WorkerDeploymentVersion | None:
    """Return the version of this worker, or None if it has no build id."""
    if settings.worker_build_id is None:
        return None
    return deployment_version(settings.task_queue, settings.worker_build_id)


def deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    """Return the deployment of a worker with a version; its workflows move to the current version.

    If the workflows declared it, Temporal would refuse every task of a worker without a version.
    """
    version, upgrade = version_of(settings), VersioningBehavior.AUTO_UPGRADE
    if version is None:
        return None
    return WorkerDeploymentConfig(version=version, use_worker_versioning=True, default_versioning_behavior=upgrade)


@asynccontextmanager
async def sending(
    settings: Settings, database: Database, worker_id: UUID, metrics: WorkerMetrics, traces: Traces = NO_TRACES
) -> AsyncIterator[tuple[Dispatcher, asyncio.Task[None]]]:
    """Run the attempts of a worker. Yields the dispatcher and the recorder's task, which ends only on a bug.

    If the block ends without an error, attempts under way have `shutdown_grace_seconds` to end and be recorded.
    """
    queues = SubscriptionQueues(
        worker_id,
        in_flight=settings.attempts_in_flight,
        per_subscription=settings.subscription_concurrency,
        queue_per_subscription=max(SHORTEST_QUEUE, (MAX_IN_FLIGHT[WorkflowKind.BATCH] + 1) * settings.batch_events),
    )
    recorder = Recorder(database, metrics, breaker_rules(settings), queues)
    sender = Sender(sender_settings(settings))
    dispatcher = Dispatcher(
        sender=sender,
        recorder=recorder,
        requests=RequestBuilder(
            Sealer(settings.plain_encryption_keys), settings.url_rules, trace_receivers=settings.trace_receivers
        ),
        queues=queues,
        retry_schedule=settings.retry_schedule_seconds,
        metrics=metrics,
        traces=traces,
    )
    writing = asyncio.create_task(recorder.run())
    watching = asyncio.create_task(watch_subscriptions(database, queues))
    try:
        yield dispatcher, writing
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_grace_seconds):
                await dispatcher.drain()
    finally:
        for task in (watching, writing, *dispatcher.beside):
            task.cancel()
        await sender.aclose()


async def _connect(settings: Settings, runtime: Runtime | None, traces: Traces) -> Client:
    """Return a connected client, however long Temporal takes to come up."""
    while True:
        try:
            return await temporal_client(
                lazy=False, payload_keys=settings.plain_payload_keys, runtime=runtime, interceptors=traces.interceptors
            )
        except RuntimeError as error:
            logger.warning("connecting to Temporal failed (%s), retrying in %g s", error, CONNECT_PAUSE_SECONDS)
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


async def run(settings: Settings, traces: Traces = NO_TRACES) -> None:
    """Run the worker until SIGTERM or SIGINT, then shut down gracefully. Raises the error of a part that failed."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    metrics = WorkerMetrics()
    working = asyncio.Event()
    async with AsyncExitStack() as resources:
        resources.callback(stopping.cancel)
        database = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            name="loyalty-webhooks worker",
            statement_seconds=STATEMENT_SECONDS,
        )
        resources.push_async_callback(database.close)
        metrics.pool.watch(database.pool.checkedout, database.pool.size())
        sdk = SdkMetrics() if settings.worker_health_port else None
        health = worker_health(
            settings.worker_health_host,
            settings.worker_health_port,
            ping_database=database.ping,
            in_words=in_words,
            registry=metrics.registry,
            sdk=sdk,
            working=working.is_set,
        )
        await resources.enter_async_context(health)
        connecting = asyncio.create_task(_connect(settings, sdk.runtime if sdk else None, traces))
        await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return
        await _work(settings, database, connecting.result(), metrics, traces, working, stopping)


async def _work(
    settings: Settings,
    database: Database,
    client: Client,
    metrics: WorkerMetrics,
    traces: Traces,
    working: asyncio.Event,
    stopping: asyncio.Task[bool],
) -> None:
    """Run relay and Temporal worker until `stopping` is done or one of them fails."""
    worker_id = uuid4()
    async with (
        lease(settings.database_url.get_secret_value(), worker_id),
        sending(settings, database, worker_id, metrics, traces) as (dispatcher, writing),
        beside_delivery(settings, database, dispatcher) as beside,
    ):
        backpressure = Backpressure()
        relay_settings = RelaySettings(
            task_queue=settings.task_queue,
            batch_events=settings.batch_events,
            poll_seconds=settings.relay_poll_seconds,
            claim_lease_seconds=settings.claim_lease_seconds,
        )
        version = version_of(settings)
        routing = VersionRouting(client, version)
        relay = Relay(database, client, backpressure, relay_settings, metrics, routing, traces)
        drains = Drains(client, settings.task_queue)
        retries = Retries(client, settings.task_queue, metrics.start_faults.inc)
        schedules = ScheduleMaintenance(
            database,
            ExpirySchedules(client, task_queue=settings.task_queue, local_hour=settings.expiry_local_hour),
            late_notices=settings.expiry_late_notices,
            reads_all=settings.expiry_database_url is not None,
        )
        mails = mail_settings(settings) is not None
        relaying = asyncio.create_task(relay.run())
        watches = [
            drains.watch(database, worker_id),
            schedules.run(),
            NoticeWatch(database, client, settings.task_queue, mail=mails).run(),
            maintain_partitions(database, client, settings.task_queue),
            watch_overdue(database, retries, worker_id),
            *([routing.watch()] if version is not None else []),
        ]
        watching = [asyncio.create_task(watch) for watch in watches]
        delivery = delivery_activities(database, dispatcher, backpressure, drains, retries, settings)
        try:
            async with make_worker(client, [*delivery, *beside], settings):
                working.set()
                logger.info("worker %s on %s polls task queue %s", worker_id, socket.gethostname(), settings.task_queue)
                await asyncio.wait([stopping, relaying, writing, *watching], return_when=asyncio.FIRST_COMPLETED)
                working.clear()
                relay.stop()
                await relaying
            for part in (writing, *watching):
                if part.done():
                    part.result()  # raises the error of a failed part
        finally:
            for part in (relaying, *watching):
                part.cancel()
