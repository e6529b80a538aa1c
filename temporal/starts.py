"""Starts and signals of workflows for operator actions, by name, so that the API needs no code of the worker."""

from datetime import timedelta
from uuid import UUID

from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.delivery.identity import draft_test_workflow_id, manual_attempt_id, send_test_workflow_id
from domain.urls.targets import shown_target
from storage.deliveries.actions import ActedOn
from temporal.drains import signal_drain, start_bulk_action
from temporal.messages import DraftTestRef, DrainTask, ManualAttempt
from temporal.retries import Retries, attributes_of
from temporal.visibility import as_summary

DRAFT_TEST_TIMEOUT = timedelta(seconds=30)
"""Timeout of the test of a draft. An operator waits for its result, so a worker that starts later sends nothing."""

START_TIMEOUT = timedelta(seconds=5)
"""Time-out of a start, for which an operator waits. Temporal answers within milliseconds or is away."""


class ActionStarts:
    """Operator actions in Temporal. Every method raises `RPCError` if Temporal is away."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._retries = Retries(client, task_queue)

    async def wake_drain(
        self, subscription_id: UUID, store_code: str, event_name: str, url: str, *, probe_now: bool = False
    ) -> None:
        """Wake the drain of a subscription, or start it. `probe_now`: an open breaker probes although none is due."""
        task = DrainTask(str(subscription_id), store_code, event_name, shown_target(url))
        await signal_drain(self._client, self._task_queue, task, "probe-now" if probe_now else "wake")

    async def attempt_once(self, delivery: ActedOn, store_code: str, action: str) -> bool:
        """Start a manual attempt of a delivery. Return False while another one is under way."""
        return await self._retries.attempt_once(
            ManualAttempt(str(delivery.message_id), action, shown_target(delivery.url), delivery.attempts),
            manual_attempt_id(delivery.message_id),
            attributes_of(store_code, delivery.event_name, delivery.event_id),
        )

    async def end_retry(self, retry_id: str) -> None:
        """Terminate the waiting activity of a delivery that was cancelled."""
        await self._retries.terminate(retry_id, reason="the delivery was cancelled")

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
        """Wait until a test has ended. Raises `WorkflowFailureError` if the test of a draft has timed out."""
        await self._client.get_workflow_handle(_test_workflow_id(ref)).result()

    async def recover(self, recover_id: UUID, subscription_id: UUID, url: str) -> None:
        """Start a recovery, unless its workflow is running."""
        await start_bulk_action(self._client, self._task_queue, "recover", recover_id, subscription_id, url)

    async def backfill(self, backfill_id: UUID, subscription_id: UUID, url: str) -> None:
        """Start a backfill, unless its workflow is running."""
        await start_bulk_action(self._client, self._task_queue, "backfill", backfill_id, subscription_id, url)

    async def _start_once(
        self, workflow: str, argument: object, workflow_id: str, summary: str, timeout: timedelta | None = None
    ) -> bool:
        """Start a workflow. Return False if one of this id is running."""
        try:
            await self._client.start_workflow(
                workflow,
                argument,
                id=workflow_id,
                task_queue=self._task_queue,
                execution_timeout=timeout,
                static_summary=summary,
                rpc_timeout=START_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True


def _test_workflow_id(ref: DraftTestRef) -> str:
    if ref.subscription_id is None:
        return draft_test_workflow_id(UUID(ref.test_id))
    return send_test_workflow_id(UUID(ref.subscription_id))
