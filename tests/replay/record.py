"""Records histories of every workflow on the real server, for `test_replay.py` to replay with the code of the day.

`make record-histories` adds those of new scenarios to `tests/replay/histories/`. A history that is there stays, since
workflows that were begun by the old code go on under the new: a new shape is a new version, and a scenario under a new
name. `python -m tests.replay.record --replace` records all scenarios anew, which only the first release may precede.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from domain.delivery.identity import (
    bulk_action_workflow_id,
    draft_test_workflow_id,
    drain_workflow_id,
    event_workflow_id,
    expiry_workflow_id,
)
from domain.expiry.rows import Kind
from storage.deliveries.bulk_actions import BulkActionKind
from storage.sealing import Sealer
from storage.subscriptions.draft_tests import open_draft_test
from storage.subscriptions.tables import DraftTest
from temporal.client import found_or_none
from temporal.messages import DraftTestRef, ExpiryRun, NoticeTask, RetentionRun
from temporal.starts import ActionStarts
from temporal.visibility import LATE
from tests.bulk_actions import begun_bulk_action
from tests.databases import cloned_database, migrated_template
from tests.deadlines import eventually
from tests.expiry_ground import ExpiryGround
from tests.old_days import old_event
from tests.pipeline import STORE, Pipeline, pipeline
from tests.postgres_server import TestServer
from tests.receiver import Receiver, status
from tests.temporal_server import real_server

HISTORIES = Path(__file__).parent / "histories"
IDENTITY = "recorder"
DEADLINE_SECONDS = 30
SCENARIOS_AT_ONCE = 5
TWO_DAYS = ExpiryRun(STORE, "points", date(2030, 1, 1), date(2030, 1, 2))


@dataclass
class Stage:
    """Where a scenario plays."""

    running: Pipeline
    receiver: Receiver

    @property
    def acting(self) -> ActionStarts:
        return ActionStarts(self.running.client, self.running.settings.task_queue)

    async def ended(self, workflow_id: str) -> WorkflowHandle[object, object]:
        """The handle of a workflow, once it has ended."""
        handle = self.running.client.get_workflow_handle(workflow_id)

        async def over() -> bool:
            return (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING

        await eventually(over, DEADLINE_SECONDS, f"{workflow_id} ended")
        return handle


Scenario = Callable[[Stage], Awaitable[WorkflowHandle[object, object]]]
SCENARIOS: dict[str, Scenario] = {}
"""By the name of the file: `<workflow>.<what happened>`."""


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    def add(play: Scenario) -> Scenario:
        SCENARIOS[name] = play
        return play

    return add


@scenario("deliver-events.alone-settled-at-once")
async def alone_settled_at_once(stage: Stage) -> WorkflowHandle[object, object]:
    await stage.running.subscribe("CustomerUpdated", stage.receiver.url("/one"))
    await stage.running.subscribe("CustomerUpdated", stage.receiver.url("/two"), legacy=True)
    [event_id] = await stage.running.emit("CustomerUpdated", "{}")
    await stage.running.until_statuses({"delivered": 2})
    return await stage.ended(event_workflow_id(STORE, event_id))


@scenario("deliver-events.alone-nobody-subscribed")
async def nobody_subscribed(stage: Stage) -> WorkflowHandle[object, object]:
    [event_id] = await stage.running.emit("CustomerUpdated", "{}")
    await eventually(lambda: _matched(stage), DEADLINE_SECONDS, "matched")
    return await stage.ended(event_workflow_id(STORE, event_id))


async def _matched(stage: Stage) -> bool:
    return bool(await stage.running.scalar("SELECT count(*) = 0 FROM event WHERE matched_at IS NULL"))


@scenario("deliver-events.alone-with-retries")
async def alone_with_retries(stage: Stage) -> WorkflowHandle[object, object]:
    stage.receiver.script(status(503), status(500), path="/failing")
    stage.receiver.script(status(500), status(410), path="/gone")
    for path in ("/failing", "/gone", "/healthy"):
        await stage.running.subscribe("CustomerUpdated", stage.receiver.url(path))
    [event_id] = await stage.running.emit("CustomerUpdated", "{}")
    await stage.running.until_statuses({"delivered": 2, "exhausted": 1})
    return await stage.ended(event_workflow_id(STORE, event_id))


@scenario("deliver-events.settled-at-once")
async def batch_settled_at_once(stage: Stage) -> WorkflowHandle[object, object]:
    await stage.running.subscribe("CustomerUpdated", stage.receiver.url("/hook"))
    await stage.running.emit("CustomerUpdated", "{}", count=30)
    await stage.running.until_statuses({"delivered": 30})
    return await stage.ended(await _batch_id(stage))


@scenario("deliver-events.some-with-retries")
async def batch_some_with_retries(stage: Stage) -> WorkflowHandle[object, object]:
    stage.receiver.script(*[status(503)] * 10)
    await stage.running.subscribe("CustomerUpdated", stage.receiver.url("/hook"))
    await stage.running.emit("CustomerUpdated", "{}", count=30)
    await stage.running.until_statuses({"delivered": 30}, DEADLINE_SECONDS)
    return await stage.ended(
        str(
            await stage.running.scalar(
                "SELECT event.workflow_id FROM event JOIN delivery USING (store_code, event_id) "
                "WHERE event.workflow_id LIKE 'events/%' AND delivery.retry_id IS NOT NULL LIMIT 1"
            )
        )
    )


async def _batch_id(stage: Stage) -> str:
    return str(
        await stage.running.scalar("SELECT DISTINCT workflow_id FROM event WHERE workflow_id LIKE 'events/%' LIMIT 1")
    )


@scenario("drain-subscription.let-go")
async def drain_sends(stage: Stage) -> WorkflowHandle[object, object]:
    stage.receiver.script(status(503))
    subscription_id = await stage.running.subscribe("CustomerUpdated", stage.receiver.url("/kept"), max_concurrency=1)
    await stage.running.emit("CustomerUpdated", "{}", count=2)
    await stage.running.until_statuses({"delivered": 2}, DEADLINE_SECONDS)
    return await stage.ended(drain_workflow_id(subscription_id))


@scenario("drain-subscription.probed-by-hand")
async def drain_probes_at_once(stage: Stage) -> WorkflowHandle[object, object]:
    url = stage.receiver.url("/recovered")
    subscription_id = await stage.running.subscribe("CustomerUpdated", url)
    await stage.running.execute(
        "INSERT INTO subscription_health (subscription_id, failures_in_row, failing_since, breaker_opened_at, probe_at)"
        " VALUES (:id, 100, now(), now(), now() + interval '1 hour')",
        id=subscription_id,
    )
    await stage.running.emit("CustomerUpdated", "{}", count=2)
    await stage.running.until_statuses({"held": 2}, DEADLINE_SECONDS)
    drain = stage.running.client.get_workflow_handle(drain_workflow_id(subscription_id))

    async def waits() -> bool:
        history = await found_or_none(drain.fetch_history())
        return history is not None and "TIMER_STARTED" in history.to_json()

    await eventually(waits, DEADLINE_SECONDS, "a drain that waits for its probe")
    await stage.acting.wake_drain(subscription_id, STORE, "CustomerUpdated", url, probe_now=True)
    await stage.running.until_statuses({"delivered": 2}, DEADLINE_SECONDS)
    return await stage.ended(drain.id)


@scenario("recover.everything")
async def recovered(stage: Stage) -> WorkflowHandle[object, object]:
    stage.receiver.script(status(410))
    url = stage.receiver.url("/hook")
    subscription_id = await stage.running.subscribe("CustomerUpdated", url)
    await stage.running.emit("CustomerUpdated", "{}")
    await stage.running.until_statuses({"exhausted": 1})
    await stage.running.edit(subscription_id, status="active")
    action_id = await begun_bulk_action(stage.running, BulkActionKind.RECOVER, subscription_id, 1)
    await stage.acting.bulk_action(BulkActionKind.RECOVER, action_id, subscription_id, url)
    return await stage.ended(bulk_action_workflow_id(BulkActionKind.RECOVER, action_id))


@scenario("backfill.everything")
async def backfilled(stage: Stage) -> WorkflowHandle[object, object]:
    url = stage.receiver.url("/hook")
    await stage.running.emit("CustomerUpdated", "{}", count=2)
    await eventually(lambda: _matched(stage), DEADLINE_SECONDS, "matched")
    subscription_id = await stage.running.subscribe("CustomerUpdated", url)
    action_id = await begun_bulk_action(stage.running, BulkActionKind.BACKFILL, subscription_id, 2)
    await stage.acting.bulk_action(BulkActionKind.BACKFILL, action_id, subscription_id, url)
    return await stage.ended(bulk_action_workflow_id(BulkActionKind.BACKFILL, action_id))


@scenario("run-expiry-schedule.two-days")
async def two_days_scanned(stage: Stage) -> WorkflowHandle[object, object]:
    return await _scan(stage, "run/two-days", TWO_DAYS)


@scenario("scan-expiring-day.nothing-due")
async def nothing_due(stage: Stage) -> WorkflowHandle[object, object]:
    run = await _scan(stage, "run/for-its-day", TWO_DAYS)
    return await stage.ended(f"{run.id}/2030-01-01")


@scenario("run-expiry-schedule.due-day-and-late-rows")
async def due_day_and_late_rows(stage: Stage) -> WorkflowHandle[object, object]:
    return await _scheduled(stage, Kind.POINTS)


@scenario("scan-expiring-day.late-rows")
async def late_rows(stage: Stage) -> WorkflowHandle[object, object]:
    await _scheduled(stage, Kind.LEVELS)
    return await stage.ended(expiry_workflow_id(STORE, Kind.LEVELS, LATE))


async def _scheduled(stage: Stage, kind: Kind) -> WorkflowHandle[object, object]:
    """The run of a schedule, which plans its days, when a row has come late for a day that is scanned."""
    await _scan(stage, f"run/{kind}-of-the-day-before", ExpiryRun(STORE, kind))
    await stage.running.execute(f"UPDATE store SET expire_{kind}_notification_days = 11")
    late = await stage.running.scalar("SELECT covered_until - interval '1 hour' FROM expiry_coverage")
    ground = ExpiryGround(stage.running.database, Sealer(stage.running.settings.plain_encryption_keys))
    await ground.put(kind, [late])
    return await _scan(stage, f"run/{kind}-of-the-day", ExpiryRun(STORE, kind))


async def _scan(stage: Stage, workflow_id: str, run: ExpiryRun) -> WorkflowHandle[object, object]:
    await stage.running.client.start_workflow(
        "run-expiry-schedule", run, id=workflow_id, task_queue=stage.running.settings.task_queue
    )
    return await stage.ended(workflow_id)


@scenario("notify-operator.nothing-due")
async def nothing_to_tell(stage: Stage) -> WorkflowHandle[object, object]:
    await stage.running.client.start_workflow(
        "notify-operator", NoticeTask(STORE), id="notices/of-a-store", task_queue=stage.running.settings.task_queue
    )
    return await stage.ended("notices/of-a-store")


@scenario("apply-retention.two-days")
async def two_old_days(stage: Stage) -> WorkflowHandle[object, object]:
    await old_event(stage.running, 31, "delivered")
    await old_event(stage.running, 500, "delivered", "held")
    workflow_id = "retention/of-a-queue"
    await stage.running.client.start_workflow(
        "apply-retention", RetentionRun(), id=workflow_id, task_queue=stage.running.settings.task_queue
    )
    return await stage.ended(workflow_id)


@scenario("draft-test.answered")
async def draft_tested(stage: Stage) -> WorkflowHandle[object, object]:
    test_id = uuid4()
    url = stage.receiver.url("/hook")
    name = "CustomerUpdated"
    draft = DraftTest(id=test_id, store_code=STORE, event_name=name, url=url, legacy=False, signature_version=1)
    async with stage.running.database.transaction() as connection:
        await open_draft_test(connection, draft)
    assert await stage.acting.start_test(DraftTestRef(str(test_id)), url)
    return await stage.ended(draft_test_workflow_id(test_id))


@asynccontextmanager
async def stage_of(template: str, client: Client) -> AsyncIterator[Stage]:
    """A pipeline on a database of its own, which hands over batches as soon as there are several events."""
    async with (
        cloned_database(template) as url,
        Receiver() as receiver,
        pipeline(url, client, retry_schedule_seconds=(1, 1), batch_events=30, breaker_failures=100) as running,
    ):
        yield Stage(running, receiver)


async def record(template: str, address: str, names: Iterable[str]) -> dict[str, WorkflowHistory]:
    """Play these scenarios, some at once, each as another process would; their histories by name."""
    places = asyncio.Semaphore(SCENARIOS_AT_ONCE)

    async def play(scenario: Scenario) -> WorkflowHistory:
        async with places:
            client = await Client.connect(address, data_converter=pydantic_data_converter, identity=IDENTITY)
            async with stage_of(template, client) as stage:
                return await (await scenario(stage)).fetch_history()

    async with asyncio.TaskGroup() as group:
        histories = {name: group.create_task(play(SCENARIOS[name])) for name in names}
    return {name: history.result() for name, history in histories.items()}


def text_of(history: WorkflowHistory) -> str:
    """The history as a person may read it in a review; without what names the machine it was recorded on."""
    events = json.loads(history.to_json(), object_hook=_without_stack_trace)
    text = json.dumps(events, indent=1, ensure_ascii=False, sort_keys=True)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text) + "\n"


def _without_stack_trace(part: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in part.items() if key != "stackTrace"}


async def main(folder: Path, *, replace: bool = False) -> None:
    """Write the histories of the scenarios that have none; with `replace`, those of all scenarios."""
    names = [name for name in SCENARIOS if replace or not (folder / f"{name}.json").exists()]
    if not names:
        sys.exit("Every scenario is recorded. A new shape is a scenario with a new name; --replace overwrites all.")
    async with migrated_template() as template, real_server() as environment:
        histories = await record(template, environment.client.service_client.config.target_host, names)
        for name, history in histories.items():
            (folder / f"{name}.json").write_text(text_of(history), encoding="utf-8")
            print(f"{name}: {len(history.events)} events")


if __name__ == "__main__":
    server = TestServer() if "TEST_POSTGRES_URL" not in os.environ else None
    try:
        if server is not None:
            os.environ["TEST_POSTGRES_URL"] = server.url
        asyncio.run(main(HISTORIES, replace="--replace" in sys.argv))
    finally:
        if server is not None:
            server.stop()
