"""How a person's acts reach the workflows: started and signalled by name, for whoever is not a worker."""

from datetime import timedelta
from uuid import UUID

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import (
    draft_test_workflow_id,
    event_workflow_id,
    redeliver_workflow_id,
    send_test_workflow_id,
)
from domain.urls.targets import shown_target
from temporal.drains import signal_keeper, start_window_act
from temporal.messages import DeliveryRef, DraftTestRef, EventRef, EventTask, KeeperTask
from temporal.visibility import as_summary, event_summary, search_attributes

DRAFT_TEST_TIMEOUT = timedelta(seconds=30)
"""Timeout of a draft's test. A person waits in front of the page, so a worker that comes later sends nothing."""

ASK_TIMEOUT = timedelta(seconds=5)
"""A person waits for the answer; Temporal answers within milliseconds or is away."""


class Acting:
    """A person's acts. Every method raises `RPCError` when Temporal cannot be reached."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def probe_now(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        """Have the subscription's keeper look at what is held, and ask an unwell receiver at once."""
        task = KeeperTask(str(subscription_id), store_code, event_name, shown_target(url))
        await signal_keeper(self._client, self._task_queue, task, "probe-now")

    async def redeliver(self, message_id: UUID, url: str) -> bool:
        """Begin one more attempt of a delivery; False while one that was asked for is under way."""
        return await self._start_once(
            "redeliver",
            DeliveryRef(str(message_id)),
            redeliver_workflow_id(message_id),
            as_summary(f"redeliver · {shown_target(url)}"),
        )

    async def start_test(self, ref: DraftTestRef, url: str) -> bool:
        """Start a test of a webhook. Return False while another test of the same saved webhook is under way."""
        return await self._start_once(
            "draft-test",
            ref,
            _test_workflow_id(ref),
            as_summary(f"test · {shown_target(url)}"),
            timeout=DRAFT_TEST_TIMEOUT if ref.subscription_id is None else None,
        )

    async def test_ended(self, ref: DraftTestRef) -> None:
        """Wait until a test has ended. Raises `WorkflowFailureError` when a draft's test ran into its timeout."""
        await self._client.get_workflow_handle(_test_workflow_id(ref)).result()

    async def recover(self, recover_id: UUID, subscription_id: UUID, url: str) -> None:
        """Begin a recovery, unless its workflow runs already."""
        await start_window_act(self._client, self._task_queue, "recover", recover_id, subscription_id, url)

    async def backfill(self, backfill_id: UUID, subscription_id: UUID, url: str) -> None:
        """Begin a backfill, unless its workflow runs already."""
        await start_window_act(self._client, self._task_queue, "backfill", backfill_id, subscription_id, url)

    async def deliver(self, store_code: str, event_id: UUID, event_name: str) -> None:
        """Have what is still open of a matched event delivered, unless its workflow runs: the whole way, from the
        attempt that is next and at its instant."""
        event = EventRef(store_code, str(event_id), event_name)
        await self._client.start_workflow(
            "deliver-event",
            EventTask(event),
            id=event_workflow_id(store_code, event_id),
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=search_attributes([event]),
            static_summary=event_summary([event]),
            rpc_timeout=ASK_TIMEOUT,
        )

    async def attempt_now(self, store_code: str, event_id: UUID, event_name: str, message_id: UUID) -> None:
        """Have the event's workflow attempt a delivery at once.

        A batch may not have handed the event on yet: then the workflow is started here, and the batch finds it there.
        """
        event = EventRef(store_code, str(event_id), event_name)
        await self._client.start_workflow(
            "deliver-event",
            EventTask(event),
            id=event_workflow_id(store_code, event_id),
            task_queue=self._task_queue,
            start_signal="look-now",
            start_signal_args=[str(message_id)],
            search_attributes=search_attributes([event]),
            static_summary=event_summary([event]),
            rpc_timeout=ASK_TIMEOUT,
        )

    async def look_now(self, store_code: str, event_id: UUID, event_name: str, message_id: UUID) -> None:
        """Tell the event's workflow that a delivery has ended, if that workflow runs.

        One that waits for its start is begun by a signal-with-start alone, as `attempt_now` sends it; a plain signal
        would be kept until then.
        """
        workflow = self._client.get_workflow_handle(event_workflow_id(store_code, event_id))
        try:
            running = (await workflow.describe(rpc_timeout=ASK_TIMEOUT)).status is WorkflowExecutionStatus.RUNNING
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            running = False
        if running:
            await self.attempt_now(store_code, event_id, event_name, message_id)

    async def _start_once(
        self, workflow: str, argument: object, workflow_id: str, summary: str, timeout: timedelta | None = None
    ) -> bool:
        """Start a workflow. Return False when one of this id is running."""
        try:
            await self._client.start_workflow(
                workflow,
                argument,
                id=workflow_id,
                task_queue=self._task_queue,
                execution_timeout=timeout,
                static_summary=summary,
                rpc_timeout=ASK_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True


def _test_workflow_id(ref: DraftTestRef) -> str:
    if ref.subscription_id is None:
        return draft_test_workflow_id(UUID(ref.test_id))
    return send_test_workflow_id(UUID(ref.subscription_id))
