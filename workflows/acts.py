"""A person's acts that take time: one more attempt of what has ended, and all that failed in a window."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.acts import ActActivities
    from activities.messages import DeliveryEnd, DeliveryRef, RecoverProgress, RecoverTask
    from workflows.delivery import ATTEMPT_TIMEOUT, HEARTBEAT_TIMEOUT, OWN_FAULTS

PAGES_TIMEOUT = timedelta(seconds=90)
"""The activity answers after 30 s by itself."""


@workflow.defn(name="redeliver")
class RedeliverWorkflow:
    """One more attempt of one delivery. Its id holds the delivery's, so that a second act meanwhile is refused."""

    @workflow.run
    async def run(self, ref: DeliveryRef) -> DeliveryEnd:
        """The attempt, however often our own faults make it start again."""
        return await workflow.execute_activity_method(
            ActActivities.redeliver_once,
            ref,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=OWN_FAULTS,
        )


@workflow.defn(name="recover")
class RecoverWorkflow:
    """Opens again what failed in a window, page by page; the subscription's keeper delivers it."""

    @workflow.run
    async def run(self, task: RecoverTask) -> RecoverProgress:
        """Until every page is open again, or a person cancelled it."""
        while True:
            progress = await workflow.execute_activity_method(
                ActActivities.recover_pages,
                task,
                start_to_close_timeout=PAGES_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=OWN_FAULTS,
                summary=task.target,
            )
            workflow.set_current_details(f"{task.target}: {progress.moved} of {progress.count} opened again.")
            if progress.finished:
                return progress
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(task)
