"""Drain of a subscription with held deliveries: behind a breaker, a limit, an order, a pause or an overload.

A held delivery is a row, not a workflow. The drain probes an unhealthy receiver with one delivery at a time, and sends
the others, oldest first, once a probe succeeds.
"""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.drain import DrainActivities
    from domain.delivery.timeouts import DRAIN_ROUND_SECONDS
    from temporal.messages import DrainRound, DrainRoundResult, DrainTask
    from temporal.visibility import as_summary
    from workflows.execution import execute

ROUND_TIMEOUT = timedelta(seconds=DRAIN_ROUND_SECONDS)

LINGER = timedelta(seconds=2)
"""Pause before the last read of a drain without work, so that a wake signal of a second ago need not be repeated."""


@workflow.defn(name="drain-subscription")
class DrainWorkflow:
    """Drain of one subscription: sends its held deliveries until there are none."""

    def __init__(self) -> None:
        self._woken = False
        self._probe_now = False
        self._under_way: list[str] = []
        self._window = 0

    @workflow.signal
    def wake(self) -> None:
        """Note that more deliveries are held, or may be sent."""
        self._woken = True

    @workflow.signal(name="probe-now")
    def probe_now(self) -> None:
        """Note that the next round is to be made at once, with a probe if need be: after a resume, a recovery, a manual
        attempt that succeeded, or an act that ends what is held."""
        self._probe_now = True

    @workflow.run
    async def run(self, task: DrainTask) -> DrainTask:
        self._under_way = task.under_way
        idle_before = probe_refused = False
        while True:
            self._woken, probe_now, self._probe_now = False, self._probe_now or probe_refused, False
            done = await self._round(task, probe_now)
            probe_refused = probe_now and done.refused
            task = replace(
                task,
                delivered=task.delivered + done.delivered,
                failed_attempts=task.failed_attempts + done.failed_attempts,
            )
            self._show(task, done)
            idle = done.next_in_seconds is None
            if idle and idle_before and not self._woken and not self._probe_now:
                return task
            await self._wait(done)
            idle_before = idle and not self._woken and not self._probe_now  # a wake signal starts the pause anew
            if workflow.info().is_continue_as_new_suggested() and not (self._probe_now or probe_refused):
                workflow.continue_as_new(replace(task, under_way=self._under_way))

    async def _round(self, task: DrainTask, probe_now: bool) -> DrainRoundResult:
        drain_round = DrainRound(task.subscription_id, probe_now, self._under_way, self._window)
        summary = as_summary(task.target)
        done = await execute(DrainActivities.drain_held, drain_round, timeout=ROUND_TIMEOUT, summary=summary)
        self._under_way, self._window = done.under_way, done.window
        return done

    async def _wait(self, done: DrainRoundResult) -> None:
        seconds = LINGER.total_seconds() if done.next_in_seconds is None else done.next_in_seconds
        if seconds <= 0:
            return
        try:
            await workflow.wait_condition(
                lambda: self._probe_now or (self._woken and not done.ignores_wake),
                timeout=seconds,
                timeout_summary=as_summary(done.state),
            )
        except TimeoutError:
            return

    def _show(self, task: DrainTask, done: DrainRoundResult) -> None:
        due = "" if done.next_in_seconds is None else f", next round in {done.next_in_seconds:.1f} s"
        workflow.set_current_details(
            f"{task.target}: {done.state}{due}. "
            f"{task.delivered} delivered, {task.failed_attempts} attempts failed so far."
        )
