"""What a drain knows from round to round: what hangs, also in its next run, and what a person has asked for."""

from collections.abc import Callable
from uuid import uuid4

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from domain.delivery.identity import drain_workflow_id
from temporal.drains import signal_drain
from temporal.messages import DrainRound, DrainRoundResult, DrainTask
from workflows.drain import DrainWorkflow

HISTORY_BYTES = 4 << 20
"""From then on Temporal suggests a new run."""

SUBSCRIPTION = uuid4()

HANGS = [str(uuid4())]


def rounds(told: list[tuple[str, DrainRound]]) -> Callable[..., object]:
    """Rounds under steady load, one request of which hangs all the time, until the drain is in its second run."""

    @activity.defn(name="drain-held")
    async def drain_held(task: DrainRound) -> DrainRoundResult:
        told.append((activity.info().workflow_run_id or "", task))
        first_run = told[0][0] == told[-1][0]
        text = "x" * (HISTORY_BYTES // 20)
        return DrainRoundResult(1, 0, 0.0 if first_run else None, text if first_run else "", under_way=HANGS)

    return drain_held


async def test_a_request_that_hangs_is_known_to_the_next_run(temporal: WorkflowEnvironment) -> None:
    told: list[tuple[str, DrainRound]] = []
    queue = f"test-{uuid4()}"
    task = DrainTask(str(uuid4()), "a-store", "CustomerUpdated", "receiver.example.com/")
    async with Worker(
        temporal.client,
        task_queue=queue,
        workflows=[DrainWorkflow],
        activities=[rounds(told)],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle: WorkflowHandle[DrainWorkflow, DrainTask] = await temporal.client.start_workflow(
            DrainWorkflow.run, task, id=f"drain-{uuid4()}", task_queue=queue
        )
        done = await handle.result()
    runs = [run for run, _ in told]
    assert len(set(runs)) == 2
    second = [one for run, one in told if run != runs[0]]
    assert second[0].under_way == HANGS
    assert done.delivered == len(told), "counted through both runs"


async def test_what_a_person_asked_for_while_another_sender_was_at_it_is_done_afterwards(
    temporal: WorkflowEnvironment,
) -> None:
    asked: list[bool] = []

    @activity.defn(name="drain-held")
    async def drain_held(task: DrainRound) -> DrainRoundResult:
        asked.append(task.probe_now)
        refused = len(asked) <= 2
        return DrainRoundResult(0, 0, 0.1 if refused else None, "", ignores_wake=refused, refused=refused)

    queue = f"test-{uuid4()}"
    async with Worker(
        temporal.client,
        task_queue=queue,
        workflows=[DrainWorkflow],
        activities=[drain_held],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        await signal_drain(
            temporal.client, queue, DrainTask(str(SUBSCRIPTION), "a-store", "CustomerUpdated", "host/"), "probe-now"
        )
        await temporal.client.get_workflow_handle(drain_workflow_id(SUBSCRIPTION)).result()
    assert asked == [True, True, True, False]
