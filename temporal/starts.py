"""Starts and signals of workflows for operator actions, by name, so that the API needs no code of the worker."""

from datetime import timedelta
from uuid import UUID

from temporalio.client import Client
from temporalio.exceptions import ActivityAlreadyStartedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.delivery.identity import draft_test_workflow_id, manual_attempt_id, send_test_workflow_id
from domain.delivery.timeouts import TEST_SECONDS
from domain.urls.targets import shown_target
from storage.deliveries.actions import ActedOn
from temporal.client import START_TIMEOUT, encrypts
from temporal.drains import signal_drain, start_bulk_action
from temporal.messages import DraftTestRef, DrainTask, ManualAttempt
from temporal.retries import ATTEMPT_ONCE, ATTEMPT_TIMEOUT, HEARTBEAT_TIMEOUT, INTERNAL_ERRORS
from temporal.visibility import as_summary, attributes_to

DRAFT_TEST_TIMEOUT = timedelta(seconds=TEST_SECONDS)
"""Timeout of the test of a draft. An operator waits for its result, so a worker that starts later sends nothing."""


class ActionStarts:
    """Operator actions in Temporal. Every method raises `RPCError` if Temporal is away."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def wake_drain(
        self, subscription_id: UUID, store_code: str, event_name: str, url: str, *, probe_now: bool = False
    ) -> None:
        """Wake the drain of a subscription, or start it. `probe_now`: an open breaker probes although none is due."""
        task = DrainTask(str(subscription_id), store_code, event_name, shown_target(url))
        await signal_drain(self._client, self._task_queue, task, "probe-now" if probe_now else "wake")

    async def attempt_once(self, delivery: ActedOn, store_code: str, action: str) -> bool:
        """Start a manual attempt of a delivery. Return False while another one is under way."""
        attempt = ManualAttempt(str(delivery.message_id), action, shown_target(delivery.url), delivery.attempts)
        try:
            await self._client.start_activity(
                ATTEMPT_ONCE,
                attempt,
                id=manual_attempt_id(delivery.message_id),
                task_queue=self._task_queue,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=INTERNAL_ERRORS,
                search_attributes=attributes_to(
                    *(attempt.target, store_code, delivery.event_name, delivery.event_id),
                    hidden=encrypts(self._client),
                ),
                summary=as_summary(f"{action} · {attempt.target}"),
                rpc_timeout=START_TIMEOUT,
            )
        except ActivityAlreadyStartedError:
            return False
        return True

    async def end_retry(self, retry_id: str) -> None:
        """Terminate the waiting activity of a delivery that was cancelled, if it runs."""
        handle = self._client.get_activity_handle(retry_id)
        try:
            await handle.terminate(reason="the delivery was cancelled", rpc_timeout=START_TIMEOUT)
        except RPCError as error:
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):  # it has ended
                raise

    async def start_test(self, ref: DraftTestRef, url: str) -> bool:
        """Start a test of a webhook. Return False while another test of the same saved webhook is under way."""
        try:
            await self._client.start_workflow(
                "draft-test",
                ref,
                id=_test_workflow_id(ref),
                task_queue=self._task_queue,
                execution_timeout=DRAFT_TEST_TIMEOUT if ref.subscription_id is None else None,
                static_summary=as_summary(f"test · {shown_target(url)}"),
                rpc_timeout=START_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def test_ended(self, ref: DraftTestRef) -> None:
        """Wait until a test has ended. Raises `WorkflowFailureError` if the test of a draft has timed out."""
        await self._client.get_workflow_handle(_test_workflow_id(ref)).result()

    async def bulk_action(self, kind: str, action_id: UUID, subscription_id: UUID, url: str) -> None:
        await start_bulk_action(self._client, self._task_queue, kind, action_id, subscription_id, url)


def _test_workflow_id(ref: DraftTestRef) -> str:
    if ref.subscription_id is None:
        return draft_test_workflow_id(UUID(ref.test_id))
    return send_test_workflow_id(UUID(ref.subscription_id))
