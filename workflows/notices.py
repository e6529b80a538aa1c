"""The promise: an operator hears what happens to the store's subscriptions, and never at the cost of a delivery."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.notices import NoticeActivities
    from temporal.messages import NoticeRound, NoticeTask
    from temporal.retries import HEARTBEAT_TIMEOUT, OWN_FAULTS

ROUND_TIMEOUT = timedelta(minutes=15)
"""Fifty notices, each of which may take 15 s, and a mail; a worker that died is noticed by its heartbeats."""


@workflow.defn(name="notify-operator")
class NotifyOperatorWorkflow:
    """Sends what is due of one store. What failed waits as a row, and is due again by the notices' retry schedule."""

    @workflow.run
    async def run(self, task: NoticeTask) -> NoticeRound:
        """Round after round while there is more."""
        sent = mailed = 0
        while True:
            done = await workflow.execute_activity_method(
                NoticeActivities.send_notices,
                task,
                start_to_close_timeout=ROUND_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=OWN_FAULTS,
                summary=task.store_code,
            )
            sent, mailed = sent + done.sent, mailed + done.mailed
            workflow.set_current_details(f"{task.store_code}: {sent} sent, {mailed} mailed, {done.failed} failed.")
            if not done.more:
                return NoticeRound(sent, done.failed, mailed, more=False)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(task)
