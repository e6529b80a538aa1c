"""Starts and signals of drains, the workflows that send held deliveries, and starts of bulk actions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from domain.delivery.identity import bulk_action_workflow_id, drain_workflow_id
from domain.urls.targets import shown_target
from storage.database import Database
from storage.deliveries.held import subscriptions_to_drain
from storage.deliveries.open import OpenDelivery
from storage.deliveries.retries import running_bulk_actions
from storage.deliveries.transitions import end_lost_tests
from telemetry.tracing import of_no_trace
from temporal.client import START_TIMEOUT, encrypts
from temporal.messages import BulkActionTask, DrainTask
from temporal.outages import in_words, is_refused
from temporal.periodic import run_in_turns
from temporal.visibility import as_summary, attributes_to

logger = logging.getLogger(__name__)

WATCH_SECONDS = 10.0
"""Interval of the search for held deliveries without a drain, left by a worker that died."""

TEST_LOST_SECONDS = 60.0
"""Age after which a test that was never begun is ended. Tests begin within a second unless every worker is away."""

BULK_ACTION_LOST_SECONDS = 10.0
"""Age after which a bulk action without a workflow is started: the API was killed after its commit."""

AGAIN_AFTER_SECONDS = 1.0
"""Interval between two wake signals to one drain. Signals in between are one signal at its end."""


async def signal_drain(client: Client, task_queue: str, task: DrainTask, signal: str) -> None:
    """Signal the drain of a subscription, and start it unless it runs. Raises `RPCError` if Temporal is away."""
    await client.start_workflow(
        "drain-subscription",
        task,
        id=drain_workflow_id(UUID(task.subscription_id)),
        task_queue=task_queue,
        start_signal=signal,
        search_attributes=attributes_to(task.target, task.store_code, task.event_name, hidden=encrypts(client)),
        static_summary=as_summary(f"drain of {task.event_name} · {task.store_code} · {task.target}"),
        rpc_timeout=START_TIMEOUT,
    )


async def start_bulk_action(
    client: Client, task_queue: str, kind: str, action_id: UUID, subscription_id: UUID, url: str
) -> None:
    """Start a `recover` or `backfill`, unless its workflow runs. Raises `RPCError` if Temporal is away."""
    target = shown_target(url)
    await client.start_workflow(
        kind,
        BulkActionTask(str(action_id), str(subscription_id), target),
        id=bulk_action_workflow_id(kind, action_id),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=as_summary(f"{kind} · {target}"),
        rpc_timeout=START_TIMEOUT,
    )


@contextmanager
def _refusal_logged(start: str) -> Iterator[None]:
    """Log a start that Temporal refuses, so that it holds up no other. Raises `RPCError` if Temporal is away."""
    try:
        yield
    except RPCError as error:
        if not is_refused(error):
            raise
        logger.error("Temporal refuses the %s (%s), the drain watchdog retries", start, in_words(error))


class Drains:
    """Client of the drains, which it starts and signals by name. Methods raise `RPCError` if Temporal is away."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._woken_at: dict[UUID, float] = {}
        self._again: dict[UUID, asyncio.Task[None]] = {}

    async def wake(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        """Ensure that a drain runs and will read the deliveries that are held now."""
        now = time.monotonic()
        self._woken_at = {one: at for one, at in self._woken_at.items() if now - at < AGAIN_AFTER_SECONDS}
        waking = partial(self._signal, "wake", subscription_id, store_code, event_name, url)
        if subscription_id not in self._woken_at:
            self._woken_at[subscription_id] = now
            await waking()
        elif subscription_id not in self._again:
            self._again[subscription_id] = asyncio.create_task(self._wake_again(subscription_id, waking))

    async def _wake_again(self, subscription_id: UUID, waking: Callable[[], Awaitable[None]]) -> None:
        """Wake the drain once more after the interval: deliveries held since may be due before its next round."""
        await asyncio.sleep(AGAIN_AFTER_SECONDS)
        del self._again[subscription_id]
        try:
            await waking()
        except RPCError as error:
            logger.warning(
                "wake signal to the drain of subscription %s failed (%s), the drain watchdog repeats it",
                *(subscription_id, in_words(error)),
            )

    async def wake_for(self, delivery: OpenDelivery) -> None:
        event, subscription = delivery.event, delivery.subscription
        await self.wake(subscription.id, event.store_code, event.name, subscription.url)

    async def probe_now(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        """Ensure that a drain runs, and have it probe the receiver at once, unless it asked to wait."""
        await self._signal("probe-now", subscription_id, store_code, event_name, url)

    async def watch(self, database: Database, worker_id: UUID) -> None:
        """Start drains, recoveries and backfills that have work and no workflow, until cancelled: a crash left them, or
        held retries fall due soon. End lost tests. The live workers take turns."""

        async def start_missing() -> None:
            async with database.transaction() as connection:
                to_drain = await subscriptions_to_drain(connection)
                bulk_actions = await running_bulk_actions(connection, at_least_seconds=BULK_ACTION_LOST_SECONDS)
                await end_lost_tests(connection, seconds=TEST_LOST_SECONDS)
            for drain in to_drain:
                with _refusal_logged(f"drain of subscription {drain[0]}"):
                    await self.wake(*drain)
            for action in bulk_actions:
                with _refusal_logged(f"{action.kind} {action.id}"), of_no_trace():
                    await start_bulk_action(
                        self._client, self._task_queue, action.kind, action.id, action.subscription_id, action.url
                    )

        await run_in_turns("drain watchdog", start_missing, database, worker_id, every_seconds=WATCH_SECONDS)

    async def _signal(self, signal: str, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        task = DrainTask(str(subscription_id), store_code, event_name, shown_target(url))
        with of_no_trace():
            await signal_drain(self._client, self._task_queue, task, signal)
