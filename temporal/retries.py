"""Standalone activities of deliveries: later attempts, single manual attempts, and reconciliation of missing ones."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from temporalio.client import Client
from temporalio.common import ActivityIDConflictPolicy, Priority, RetryPolicy
from temporalio.service import RPCError

from domain.delivery.timeouts import ATTEMPT_SECONDS
from domain.urls.targets import shown_target
from storage.database import Database
from storage.deliveries.retries import LONGEST_OVERDUE, WaitingRetry, overdue
from storage.deliveries.transitions import own_retries
from telemetry.tracing import of_no_trace
from temporal.client import START_TIMEOUT, encrypts
from temporal.messages import DeliveryRef
from temporal.outages import in_words, is_refused
from temporal.periodic import run_in_turns
from temporal.visibility import as_summary, attributes_to

logger = logging.getLogger(__name__)

DELIVER_WEBHOOK = "deliver-webhook"
ATTEMPT_ONCE = "attempt-once"

ATTEMPT_TIMEOUT = timedelta(seconds=ATTEMPT_SECONDS)
"""Time-out of an activity that makes one attempt. The attempt goes on, and the next activity joins it."""

HEARTBEAT_TIMEOUT = timedelta(seconds=5)
"""Delay after which Temporal notices that a worker died in an attempt. The dead worker's lease lapses after 3 s."""

INTERNAL_ERRORS = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=0,  # Unlimited: an outage of the database never ends a delivery.
)
"""Retry policy for internal errors. A failed attempt brings the delay of its retry schedule instead."""

FIRST_ATTEMPTS_ERRORS = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=1), maximum_attempts=0
)
"""Retry policy of first attempts, which continue within 1 s after an outage of the database."""

STARTS_AT_ONCE = 4
"""Starts of activities under way in one worker. A shard of Temporal writes one after the other, so more are hardly
faster, and the relay's starts queue behind them: 14 ms behind 4, 130 ms behind 32."""

RETRY_PRIORITY = 4
"""Priority of later attempts, below the default of 3: a backlog of retries is passed by new events."""

FAIRNESS_KEY_BYTES = 64
"""Maximum length of a fairness key in Temporal."""

RECONCILE_SECONDS = 60.0
"""Interval of the rounds. A delivery that lost its activity is attempted within two minutes of its instant."""

MOST_IN_A_ROUND = 500
"""Deliveries restarted in one round: some seconds of starts, so that a restore does not hold up new events."""


class Retries:
    """Client of the standalone activities of deliveries, which starts a few at a time."""

    def __init__(self, client: Client, task_queue: str, count_fault: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._task_queue = task_queue
        self._count_fault = count_fault
        self._start_slots = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start_all(self, waiting: Iterable[WaitingRetry]) -> int:
        """Start the activity of each delivery and return how many Temporal refused as invalid. Such a start holds up no
        other; it is logged, and repeated by `watch_overdue` when overdue. Raises the first other error (RPCError when
        Temporal is away) and makes no further starts; the call may be repeated."""
        read_at = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(self._start(one, read_at)) for one in waiting]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return sum(start.result() for start in starts)

    async def _start(self, waiting: WaitingRetry, read_at: float) -> bool:
        async with self._start_slots:
            target = shown_target(waiting.url)
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
                    retry_policy=INTERNAL_ERRORS,
                    id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
                    priority=Priority(priority_key=RETRY_PRIORITY, fairness_key=fairness_key(waiting.store_code)),
                    search_attributes=attributes_to(
                        *(target, waiting.store_code, waiting.event_name, waiting.event_id),
                        hidden=encrypts(self._client),
                    ),
                    summary=as_summary(f"{target} · {waiting.event_name} · {waiting.store_code}"),
                    rpc_timeout=START_TIMEOUT,
                )
            except RPCError as error:
                self._count_fault()
                if not is_refused(error):
                    raise
                logger.error(
                    "Temporal refuses retry activity %s (%s), retrying in minutes", waiting.retry_id, in_words(error)
                )
                return True
            return False


def fairness_key(store_code: str) -> str:
    """Return the store code, cut to the maximum length of a fairness key."""
    return store_code.encode()[:FAIRNESS_KEY_BYTES].decode(errors="ignore")


async def watch_overdue(database: Database, retries: Retries, worker_id: UUID) -> None:
    """Start the activities of overdue deliveries every minute, until cancelled; the live workers take turns. A
    round ends early while Temporal is away."""
    rounds = OverdueRounds(database, retries)

    async def restart() -> None:
        if found := await rounds.restart():
            logger.warning(
                "%d deliveries are overdue by more than a minute; a new activity was started for each that has "
                "none running in Temporal",
                found,
            )

    await run_in_turns("check for overdue deliveries", restart, database, worker_id, every_seconds=RECONCILE_SECONDS)


class OverdueRounds:
    """Rounds through the overdue deliveries, each behind the last: starts that Temporal refuses hold up no others."""

    def __init__(self, database: Database, retries: Retries) -> None:
        self._database = database
        self._retries = retries
        self._after = LONGEST_OVERDUE

    async def restart(self, *, most: int = MOST_IN_A_ROUND) -> int:
        """Start the activities of the next overdue deliveries, under the ids in their rows, and return how many. An
        activity that runs already stays as it is. Raises RPCError while Temporal is away."""
        async with self._database.transaction() as connection:
            found = await overdue(connection, most=most, after=self._after)
            waiting = await own_retries(connection, [message_id for _, message_id in found])
        with of_no_trace():
            await self._retries.start_all(waiting)
        self._after = found[-1] if len(found) == most else LONGEST_OVERDUE
        return len(waiting)
