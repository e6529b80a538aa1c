"""The worker process: settings -> resources -> Temporal worker and relay, and an orderly stop.

It stops in this order: claim no more; let the workflows and attempts under way finish; write their outcomes; give up
the leases.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.deliver import DeliveryActivities
from activities.dispatcher import AttemptLimits, Dispatcher
from activities.gate import Gate
from activities.recorder import Recorder
from activities.sender import Sender, SenderSettings
from domain.url_rules import UrlRules
from relay import Relay, RelaySettings
from settings import Settings
from storage.database import Database
from storage.sealing import Sealer
from storage.workers import TOUCH_SECONDS, leave, touch
from workflows.client import temporal_client
from workflows.delivery import EventBatchWorkflow, EventWorkflow

logger = logging.getLogger(__name__)

WORKFLOWS = (EventWorkflow, EventBatchWorkflow)

PASSED_THROUGH = ("activities", "domain", "workflows.visibility")
"""Pure or stateless modules the sandbox takes from the host instead of loading them for each workflow."""

ACTIVITIES_AT_ONCE = 1000
"""Later attempts under way or queueing in one worker; each is a coroutine. Bounded by the attempts in flight."""

CACHED_WORKFLOWS = 2000
"""Each costs some 100 KB while cached; one that fell out is replayed from its history when its next task comes."""

CONNECT_PAUSE_SECONDS = 0.5
"""Between tries to reach Temporal at the start."""


def make_worker(client: Client, activities: DeliveryActivities, settings: Settings) -> Worker:
    """The Temporal worker: everything it can run."""
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=list(WORKFLOWS),
        activities=[activities.attempt_events, activities.deliver_webhook],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
        ),
        max_cached_workflows=CACHED_WORKFLOWS,
        max_concurrent_activities=ACTIVITIES_AT_ONCE,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        # Heartbeats are passed on soon enough for the time-out of 5 s in workflows/delivery.py.
        max_heartbeat_throttle_interval=timedelta(seconds=2),
        default_heartbeat_throttle_interval=timedelta(seconds=2),
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
    )


def url_rules(settings: Settings) -> UrlRules:
    """Where this installation sends to."""
    return UrlRules(
        allow_http=settings.allow_http,
        allowed_ports=frozenset(settings.allowed_ports) or None,
        allowed_networks=settings.allowed_networks,
    )


@asynccontextmanager
async def sending(settings: Settings, database: Database, worker_id: UUID) -> AsyncIterator[Dispatcher]:
    """Sender, recorder and dispatcher; on leaving, all attempts under way have their outcome written."""
    rules = url_rules(settings)
    recorder = Recorder(database)
    sender = Sender(
        SenderSettings(
            rules=rules,
            user_agent=settings.user_agent,
            timeout_seconds=settings.request_timeout_seconds,
            ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
            client_cert=str(settings.client_certificate) if settings.client_certificate else None,
        )
    )
    dispatcher = Dispatcher(
        worker_id=worker_id,
        sender=sender,
        recorder=recorder,
        sealer=Sealer([key.get_secret_value() for key in settings.encryption_keys]),
        rules=rules,
        limits=AttemptLimits(
            in_flight=settings.attempts_in_flight,
            per_subscription=settings.subscription_concurrency,
            retry_schedule=settings.retry_schedule_seconds,
        ),
    )
    writing = asyncio.create_task(recorder.run())
    try:
        yield dispatcher
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_grace_seconds):
                await dispatcher.drain()
    finally:
        writing.cancel()
        await sender.aclose()


@asynccontextmanager
async def lease(database: Database, worker_id: UUID) -> AsyncIterator[None]:
    """Say every second that this worker lives; on leaving, give up its leases."""

    async def touching() -> None:
        while True:
            with suppress(SQLAlchemyError, OSError, TimeoutError):
                async with database.transaction() as connection:
                    await touch(connection, worker_id)
            await asyncio.sleep(TOUCH_SECONDS)

    task = asyncio.create_task(touching())
    try:
        yield
    finally:
        task.cancel()
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            async with database.transaction() as connection:
                await leave(connection, worker_id)


async def _connect() -> Client:
    """A connected client, however long Temporal takes to come up."""
    while True:
        try:
            return await temporal_client(lazy=False)
        except RuntimeError as error:
            logger.warning("Temporal cannot be reached yet: %s", error)
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then stop in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connecting = asyncio.create_task(_connect())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    client = connecting.result()
    worker_id = uuid4()
    async with AsyncExitStack() as resources:
        database = Database(
            settings.sqlalchemy_url, pool_size=settings.database_pool_size, name="loyalty-webhooks worker"
        )
        resources.push_async_callback(database.close)
        await resources.enter_async_context(lease(database, worker_id))
        dispatcher = await resources.enter_async_context(sending(settings, database, worker_id))
        gate = Gate()
        relay = Relay(
            database,
            client,
            gate,
            RelaySettings(
                task_queue=settings.task_queue,
                batch_events=settings.batch_events,
                poll_seconds=settings.relay_poll_seconds,
                claim_lease_seconds=settings.claim_lease_seconds,
            ),
        )
        relaying = asyncio.create_task(relay.run())
        async with make_worker(client, DeliveryActivities(database, dispatcher, gate), settings):
            logger.info("worker %s on %s takes from %s", worker_id, socket.gethostname(), settings.task_queue)
            await asyncio.wait([stopping, relaying], return_when=asyncio.FIRST_COMPLETED)
            relay.stop()
            await relaying
