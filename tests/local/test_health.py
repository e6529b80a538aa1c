"""`status` says what is wrong where, without a secret, and does not take an unreachable part for a healthy one."""

import json
from uuid import uuid4

import pytest
from temporalio.client import Client

from commands.stack import _show
from local.health import ask
from local.ports import HOST, hold_free
from storage.operations.workers import touch
from tests.bulk_actions import fail_many
from tests.ground import Ground


async def test_where_nothing_listens_nothing_is_ready_and_each_reason_is_said() -> None:
    with hold_free() as nobody:
        port = nobody.getsockname()[1]

        async def temporal() -> Client:
            return await Client.connect(f"{HOST}:{port}", lazy=True)

        health = await ask(
            api=f"http://{HOST}:{port}",
            worker=None,
            database=f"postgresql://user:pass-word@{HOST}:{port}/events",
            temporal=temporal,
        )
    assert not health.healthy
    assert (health.backlog, health.workers, health.overdue) == (None, None, None)
    assert [component.name for component in health.components] == ["postgres", "temporal", "api", "worker"]
    assert not any(component.ready for component in health.components)
    reasons = [component.reason for component in health.components]
    assert reasons[0] == "cannot be reached: nothing listens there"
    assert reasons[1] == "cannot be reached"
    assert reasons[2] == "does not answer"
    text = json.dumps(health.facts())
    assert "pass-word" not in text
    content = json.loads(text)
    assert content["healthy"] is False
    assert content["backlog"] is None
    assert content["components"]["postgres"]["address"] == f"{HOST}:{port}/events"
    assert "WORKER_HEALTH_PORT" in content["components"]["worker"]["reason"]


async def test_every_live_worker_is_listed(ground: Ground, cleared_url: str) -> None:
    alive, gone = [uuid4(), uuid4()], uuid4()
    async with ground.database.transaction() as connection:
        for worker_id in (*alive, gone):
            await touch(connection, worker_id)
    seen = "now() + CASE WHEN id = :id THEN interval '-1 minute' ELSE interval '1 hour' END"
    await ground.execute(f"UPDATE worker SET seen_at = {seen}", id=gone)
    with hold_free() as nobody:
        root = f"http://{HOST}:{nobody.getsockname()[1]}"
        address = cleared_url.replace("+asyncpg", "")
        health = await ask(root, None, address, lambda: Client.connect(root.removeprefix("http://"), lazy=True))
    assert {worker.id for worker in health.workers or ()} == set(alive)
    assert {one.name for one in health.components if one.ready} == {"postgres", "worker"}, "one lives, its port unknown"
    assert [set(worker) for worker in health.facts()["workers"]] == [{"host", "pid", "started_at"}] * 2


async def test_overdue_deliveries_and_unclaimed_events_are_counted(
    ground: Ground, cleared_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def shown() -> str:
        _show(await ask(root, None, address, lambda: Client.connect(root.removeprefix("http://"), lazy=True)))
        return " ".join(capsys.readouterr().out.split())

    subscription_id = await ground.subscribe("CustomerUpdated", "http://receiver.example.com/")
    [event_id] = await ground.emit("CustomerUpdated", "{}")
    await fail_many(ground, subscription_id, event_id, 3, status="pending", reason=None)
    due = "UPDATE delivery SET next_attempt_at = now() + make_interval(secs => :due_in)"
    with hold_free() as nobody:
        root = f"http://{HOST}:{nobody.getsockname()[1]}"
        address = cleared_url.replace("+asyncpg", "")
        await ground.execute(due, due_in=-1)
        text = await shown()
        assert "Backlog: 1 unmatched event, the oldest" in text
        assert "Overdue deliveries: none." in text
        await ground.execute(f"{due} WHERE message_id IN (SELECT message_id FROM delivery LIMIT 2)", due_in=-61)
        assert "Overdue deliveries: 2. `loyalty-webhooks reconcile --dry-run`" in await shown()
        health = await ask(root, None, address, lambda: Client.connect(root.removeprefix("http://"), lazy=True))
        assert health.facts()["overdue_deliveries"] == 2


async def test_without_a_live_worker_the_worker_is_not_ready(
    ground: Ground, cleared_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await ground.execute("DELETE FROM worker")
    with hold_free() as nobody:
        root = f"http://{HOST}:{nobody.getsockname()[1]}"
        address = cleared_url.replace("+asyncpg", "")
        health = await ask(root, None, address, lambda: Client.connect(root.removeprefix("http://"), lazy=True))
    assert [one.name for one in health.components if one.ready] == ["postgres"]
    _show(health)
    shown = capsys.readouterr().out
    assert "Worker: PostgreSQL lists no live worker" in shown
    assert "Live workers: 0." in shown
