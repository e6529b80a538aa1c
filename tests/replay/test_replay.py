"""Workflows that were begun by earlier code go on under today's: every recorded history replays."""

import json
import re
import shutil
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

import worker
from tests.replay.changed import ForgetfulWorkflow, HastyWorkflow, PatientWorkflow
from tests.replay.record import HISTORIES, SCENARIOS, main, record, text_of

RECORDED = sorted(HISTORIES.glob("*.json"))

CURE = """
The workflow {workflow} has become incompatible with the history {name}.
For whom: every workflow of that kind that is open when workers with this code take over. Each of them would fail its
workflow tasks again and again and deliver nothing more until a worker of the old code runs.
The cure: keep the order of what the workflow asks of Temporal, or begin the new order with
`if workflow.patched("…")` and leave the old one in the other branch. Only where no history of a release is among those
that fail: `python -m tests.replay.record --replace`.
"""


def replayer(*workflows: type) -> Replayer:
    """In Temporal's sandbox, which the worker does without: a look at the clock or a draw by chance is refused here."""
    return Replayer(
        workflows=list(workflows),
        workflow_runner=SandboxedWorkflowRunner(),
        data_converter=pydantic_data_converter,
    )


def history_of(text: str) -> WorkflowHistory:
    """Return a history under the id of its workflow."""
    begun = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(begun["workflowId"], text)


async def replay(workflows: tuple[type, ...], path: Path) -> None:
    try:
        await replayer(*workflows).replay_workflow(history_of(path.read_text(encoding="utf-8")))
    except NondeterminismError as error:
        error.add_note(CURE.format(workflow=path.stem.partition(".")[0], name=path.name))
        raise


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
async def test_a_recorded_history_replays(path: Path) -> None:
    await replay(worker.WORKFLOWS, path)


def test_every_workflow_has_a_recorded_history() -> None:
    registered = {workflow._Definition.must_from_class(one).name for one in worker.WORKFLOWS}
    recorded = {path.stem.partition(".")[0] for path in RECORDED}
    assert registered <= recorded, "add a scenario to tests/replay/record.py and run `make record-histories`"


def test_the_scenarios_are_those_that_are_recorded() -> None:
    assert set(SCENARIOS) <= {path.stem for path in RECORDED}, "run `make record-histories`"


def test_every_activity_and_signal_of_a_workflow_is_in_a_recorded_history() -> None:
    sources = "".join(path.read_text() for path in (HISTORIES.parents[2] / "activities").glob("*.py"))
    names = set(re.findall(r'@activity\.defn\(name="(.+)"\)', sources)) - {"attempt-events"}  # local: in a marker
    for one in worker.WORKFLOWS:
        names |= {str(signal) for signal in workflow._Definition.must_from_class(one).signals}
    recorded = "".join(path.read_text() for path in RECORDED)
    assert {name for name in names if f'"{name}"' not in recorded} == set(), "add a scenario that has them"


async def test_recording_overwrites_and_removes_nothing(tmp_path: Path) -> None:
    for path in RECORDED:
        shutil.copy(path, tmp_path)
    released = tmp_path / "deliver-events.of-a-release.json"
    released.touch()
    with pytest.raises(SystemExit, match="new name"):
        await main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in [*RECORDED, released]}
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in RECORDED)


@pytest.mark.timeout(300)
async def test_what_is_recorded_today_replays(database_template: str, temporal: WorkflowEnvironment) -> None:
    """The scenarios still play, and nothing in a history depends on the process that made it."""
    histories = await record(database_template, temporal.client.service_client.config.target_host, SCENARIOS)
    for history in histories.values():
        await replayer(*worker.WORKFLOWS).replay_workflow(history_of(text_of(history)))
    assert set(histories) == set(SCENARIOS)


@pytest.mark.parametrize("changed", [PatientWorkflow, ForgetfulWorkflow, HastyWorkflow])
async def test_an_incompatible_change_is_caught_and_told_how_to_be_cured(changed: type) -> None:
    with pytest.raises(NondeterminismError) as raised:
        await replay((changed,), HISTORIES / "deliver-events.some-with-retries.json")
    [note] = raised.value.__notes__
    assert "deliver-events.some-with-retries.json" in note
    assert "workflow.patched" in note
