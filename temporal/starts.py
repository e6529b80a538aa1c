"""How a person's acts reach the workflows: started and signalled by name, for whoever is not a worker."""

from datetime import timedelta
from uuid import UUID

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import (
    event_workflow_id,
    redeliver_workflow_id,
    send_test_workflow_id,
    trial_workflow_id,
)
from domain.urls.targets import shown_target
from temporal.drains import signal_keeper, start_window_act
from temporal.messages import DRAFT_TEST_TIMEOUT, DeliveryRef, EventRef, EventTask, KeeperTask, TrialRef
from temporal.visibility import as_summary, event_summary, search_attributes

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
        return await self._begin_attempt(redeliver_workflow_id(message_id), message_id, "redeliver", url)

    async def send_test(self, subscription_id: UUID, message_id: UUID, url: str) -> bool:
        """Begin the one attempt of a test; False while another test of the subscription is under way."""
        return await self._begin_attempt(send_test_workflow_id(subscription_id), message_id, "test", url)

    async def try_webhook(self, trial_id: UUID, url: str) -> None:
        """Begin a test of a webhook that is not saved."""
        await self._client.start_workflow(
            "try-webhook",
            TrialRef(str(trial_id)),
            id=trial_workflow_id(trial_id),
            task_queue=self._task_queue,
            execution_timeout=DRAFT_TEST_TIMEOUT,
            static_summary=as_summary(f"try · {shown_target(url)}"),
            rpc_timeout=ASK_TIMEOUT,
        )

    async def trial_ended(self, trial_id: UUID) -> None:
        """Wait until it was sent, or cannot be any more. Raises `WorkflowFailureError` then."""
        await self._client.get_workflow_handle(trial_workflow_id(trial_id)).result()

    async def test_ended(self, subscription_id: UUID) -> None:
        """Wait until the test that was begun last has ended."""
        await self._client.get_workflow_handle(send_test_workflow_id(subscription_id)).result()

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

    async def _begin_attempt(self, workflow_id: str, message_id: UUID, what: str, url: str) -> bool:
        try:
            await self._client.start_workflow(
                "redeliver",
                DeliveryRef(str(message_id)),
                id=workflow_id,
                task_queue=self._task_queue,
                static_summary=as_summary(f"{what} · {shown_target(url)}"),
                rpc_timeout=ASK_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True
