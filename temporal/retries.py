"""Standalone activities of deliveries: the later attempts of one delivery, and single manual attempts."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from temporalio.client import Client
from temporalio.common import (
    ActivityIDConflictPolicy,
    Priority,
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
)
from temporalio.exceptions import ActivityAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.urls.targets import shown_target
from storage.deliveries.retries import WaitingRetry
from temporal.messages import DeliveryRef, ManualAttempt
from temporal.visibility import EVENT_IDS, EVENT_NAME, STORE_CODE, as_summary

logger = logging.getLogger(__name__)

DELIVER_WEBHOOK = "deliver-webhook"
ATTEMPT_ONCE = "attempt-once"

ATTEMPT_TIMEOUT = timedelta(seconds=90)
"""Maximum duration of one attempt. A request takes 15 s at most; the rest is queueing in the worker."""

HEARTBEAT_TIMEOUT = timedelta(seconds=5)
"""Delay after which Temporal notices that a worker died in an attempt. The dead worker's lease lapses after 3 s."""

OWN_FAULTS = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=0,  # Unlimited: an outage of the database never ends a delivery.
)
"""Retry policy for faults of the product. A failed attempt brings the delay of its retry schedule instead."""

STARTS_AT_ONCE = 4
"""Starts of activities under way in one worker. A shard of Temporal writes one after the other, so more are hardly
faster, and the relay's starts queue behind them: 14 ms behind 4, 130 ms behind 32."""

START_TIMEOUT = timedelta(seconds=5)
"""Time-out of one call; the start is repeated under the same id."""

RETRY_PRIORITY = 4
"""Priority of later attempts, below the default of 3: a backlog of retries is passed by new events."""


def attributes_of(store_code: str, event_name: str, event_id: UUID) -> TypedSearchAttributes:
    """Search attributes by which the Web UI finds the activity."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(STORE_CODE, [store_code]),
            SearchAttributePair(EVENT_NAME, [event_name]),
            SearchAttributePair(EVENT_IDS, [str(event_id)]),
        ]
    )


def _no_fault() -> None:
    return


class Retries:
    """Starts and ends the standalone activities of deliveries, a few at a time."""

    def __init__(self, client: Client, task_queue: str, count_fault: Callable[[], None] = _no_fault) -> None:
        self._client = client
        self._task_queue = task_queue
        self._count_fault = count_fault
        self._start_slots = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start_all(self, waiting: Iterable[WaitingRetry]) -> int:
        """Start the activity of each delivery and return how many Temporal refused for good.

        A refused start holds up no other; it is logged, and `reconcile` repeats it. Raises RPCError when Temporal is
        away, after which the call may be repeated.
        """
        read_at = time.monotonic()
        refused = await asyncio.gather(*(self._start(one, read_at) for one in waiting))
        return sum(refused)

    async def _start(self, waiting: WaitingRetry, read_at: float) -> bool:
        async with self._start_slots:
            delay = waiting.due_in_seconds - (time.monotonic() - read_at)
            try:
                await self._client.start_activity(
                    DELIVER_WEBHOOK,
                    DeliveryRef(str(waiting.message_id)),
                    id=waiting.retry_id,
                    task_queue=self._task_queue,
                    start_to_close_timeout=ATTEMPT_TIMEOUT,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                    start_delay=timedelta(seconds=delay) if delay > 0 else None,
                    retry_policy=OWN_FAULTS,
                    id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
                    priority=Priority(priority_key=RETRY_PRIORITY, fairness_key=fairness_key(waiting.store_code)),
                    search_attributes=attributes_of(waiting.store_code, waiting.event_name, waiting.event_id),
                    summary=as_summary(f"{shown_target(waiting.url)} · {waiting.event_name} · {waiting.store_code}"),
                    rpc_timeout=START_TIMEOUT,
                )
            except RPCError as error:
                self._count_fault()
                if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                    raise
                logger.error("Temporal refuses the retry %s: %s", waiting.retry_id, error.message)
                return True
            return False

    async def attempt_once(
        self, attempt: ManualAttempt, activity_id: str, attributes: TypedSearchAttributes | None = None
    ) -> bool:
        """Start one manual attempt. Return False while another manual attempt of the delivery is under way.

        Raises RPCError when Temporal is away.
        """
        try:
            await self._client.start_activity(
                ATTEMPT_ONCE,
                attempt,
                id=activity_id,
                task_queue=self._task_queue,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=OWN_FAULTS,
                search_attributes=attributes,
                summary=as_summary(f"{attempt.action} · {attempt.target}"),
                rpc_timeout=START_TIMEOUT,
            )
        except ActivityAlreadyStartedError:
            return False
        return True

    async def terminate(self, retry_id: str, *, reason: str) -> None:
        """End the activity of a delivery that has ended, if it runs. Raises RPCError when Temporal is away."""
        try:
            await self._client.get_activity_handle(retry_id).terminate(reason=reason, rpc_timeout=START_TIMEOUT)
        except RPCError as error:
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):  # it has ended
                raise


FAIRNESS_KEY_BYTES = 64
"""Maximum length of a fairness key in Temporal."""


def fairness_key(store_code: str) -> str:
    """Return the store code, cut to the maximum length of a fairness key."""
    return store_code.encode()[:FAIRNESS_KEY_BYTES].decode(errors="ignore")
