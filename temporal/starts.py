"""How a person's acts reach the workflows: started and signalled by name, for whoever is not a worker."""

from datetime import timedelta
from uuid import UUID

from temporalio.client import Client

from domain.delivery.identity import manual_attempt_id, send_test_workflow_id, trial_workflow_id
from domain.urls.targets import shown_target
from storage.operations.actions import ActedOn
from temporal.drains import signal_keeper, start_window_act
from temporal.messages import DRAFT_TEST_TIMEOUT, KeeperTask, ManualAttempt, TrialRef
from temporal.retries import Retries, attributes_of
from temporal.visibility import as_summary

ASK_TIMEOUT = timedelta(seconds=5)
"""A person waits for the answer; Temporal answers within milliseconds or is away."""


class Acting:
    """A person's acts. Every method raises `RPCError` when Temporal cannot be reached."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._retries = Retries(client, task_queue)

    async def wake_drain(self, subscription_id: UUID, store_code: str, event_name: str, url: str) -> None:
        """Have the drain of a subscription look at its held deliveries at once."""
        task = KeeperTask(str(subscription_id), store_code, event_name, shown_target(url))
        await signal_keeper(self._client, self._task_queue, task, "wake")

    async def attempt_once(self, delivery: ActedOn, store_code: str, action: str) -> bool:
        """Begin one attempt of a delivery that a person asked for; False while one that was asked for is under way."""
        return await self._retries.attempt_once(
            ManualAttempt(str(delivery.message_id), action, shown_target(delivery.url)),
            manual_attempt_id(delivery.message_id),
            attributes_of(store_code, delivery.event_name, delivery.event_id),
        )

    async def end_retry(self, retry_id: str) -> None:
        """End the activity that waits to attempt a delivery which has been cancelled."""
        await self._retries.terminate(retry_id, reason="the delivery was cancelled")

    async def send_test(self, subscription_id: UUID, message_id: UUID, url: str) -> bool:
        """Begin the one attempt of a test; False while another test of the subscription is under way."""
        attempt = ManualAttempt(str(message_id), "test", shown_target(url))
        return await self._retries.attempt_once(attempt, send_test_workflow_id(subscription_id))

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
        await self._client.get_activity_handle(send_test_workflow_id(subscription_id)).result()

    async def recover(self, recover_id: UUID, subscription_id: UUID, url: str) -> None:
        """Begin a recovery, unless its workflow runs already."""
        await start_window_act(self._client, self._task_queue, "recover", recover_id, subscription_id, url)

    async def backfill(self, backfill_id: UUID, subscription_id: UUID, url: str) -> None:
        """Begin a backfill, unless its workflow runs already."""
        await start_window_act(self._client, self._task_queue, "backfill", backfill_id, subscription_id, url)
