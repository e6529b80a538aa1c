"""Operator notices. The promise: an operator hears of what happens to subscriptions, at no cost to deliveries."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.notices import NoticeActivities
    from domain.delivery.notices import NOTICES_A_ROUND
    from domain.delivery.timeouts import LONGEST_REQUEST_SECONDS
    from temporal.messages import NoticeRound, NoticeTask
    from workflows.execution import execute

ROUND_TIMEOUT = timedelta(seconds=(NOTICES_A_ROUND + 2) * LONGEST_REQUEST_SECONDS)
"""Time-out of a round: its notices one after the other, and a mail. A dead worker is noticed by its heartbeats."""


@workflow.defn(name="notify-operator")
class NotifyOperatorWorkflow:
    """Delivery of the due notices of one store. A failed notice is due again by the retry schedule of notices."""

    @workflow.run
    async def run(self, task: NoticeTask) -> NoticeRound:
        sent = mailed = 0
        while True:
            done = await execute(NoticeActivities.send_notices, task, timeout=ROUND_TIMEOUT, summary=task.store_code)
            sent, mailed = sent + done.sent, mailed + done.mailed
            workflow.set_current_details(f"{task.store_code}: {sent} sent, {mailed} mailed, {done.failed} failed.")
            if not done.more:
                return NoticeRound(sent, done.failed, mailed, more=False)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(task)
