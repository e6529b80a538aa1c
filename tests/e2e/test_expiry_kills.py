"""A day is scanned while worker and Temporal are killed: exactly one event for each due row, and each is delivered.

The ledger is the rows themselves: which of them are due is known before, and the ids of their notices are derived
here. Each kill waits until so many notices are there, so that it falls into the middle of the scan.
"""

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from domain.expiry.rows import Kind, notice_id
from local.stack_file import Stack, read_stack
from tests.deadlines import eventually
from tests.receiver import Receiver
from tests.stack import running_stack

DUE = 6_000
OTHERS = 2_000
KILLS = [*zip(("worker", "temporal") * 3, range(400, DUE, 900), strict=False)]
"""What is killed, and once how many notices are there."""

DAY = datetime(2031, 3, 1, tzinfo=UTC)


async def fill(database: asyncpg.Connection, store: str) -> set[UUID]:
    """Rows that expire on the day, and others right before and behind it or unable to expire; ids of those due."""
    due = {uuid4(): DAY + timedelta(seconds=number * 14) for number in range(DUE)}
    others = {
        uuid4(): [DAY - timedelta(microseconds=1), DAY + timedelta(days=1), DAY + timedelta(hours=1)][number % 3]
        for number in range(OTHERS)
    }
    records = [(store, id_, uuid4(), 1, "add", "active", instant, DAY) for id_, instant in due.items()]
    for id_, instant in others.items():
        status = "active" if not DAY <= instant < DAY + timedelta(days=1) else "cancelled"
        records.append((store, id_, uuid4(), 1, "add", status, instant, DAY))
    columns = ("store_code", "transfer_id", "customer_id", "points", "type", "status", "expires_at", "updated_at")
    await database.copy_records_to_table("point_transfer", records=records, columns=columns)
    return {notice_id(store, Kind.POINTS, id_, instant) for id_, instant in due.items()}


async def kill(stack_path: Path, component: str) -> None:
    """Kill one process and wait until the supervisor has started another."""
    stack = read_stack(stack_path)
    assert stack is not None
    pid = getattr(stack.pids, component)
    os.kill(pid, signal.SIGKILL)

    async def restarted() -> bool:
        now = read_stack(stack_path)
        return now is not None and getattr(now.pids, component) != pid

    await eventually(restarted, 20, f"{component} restarted")


def api(stack: Stack) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"{stack.api}/api/{stack.store}", headers={"X-AUTH-TOKEN": stack.api_key})


@pytest.mark.stack
@pytest.mark.timeout(150)
async def test_each_due_row_makes_one_event_whatever_is_killed_meanwhile(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        database = await asyncpg.connect(stack.database)
        async with Receiver() as receiver, api(stack) as client:
            expected = await fill(database, stack.store)
            subscription = {"eventName": "PointsWillExpire", "url": receiver.url("/notices")}
            answer = await client.post("/webhook/subscription", json={"webhookSubscription": subscription})
            assert answer.status_code == 200, answer.text
            answer = await client.post("/schedule/points/trigger", json={"day": DAY.date().isoformat()})
            assert answer.status_code == 202, answer.text

            began = time.monotonic()
            for component, events in KILLS:

                async def emitted(events: int = events) -> bool:
                    return bool(await database.fetchval("SELECT count(*) >= $1 FROM event", events))

                await eventually(emitted, 40, f"{events} notices before {component} is killed")
                await kill(tmp_path / "stack" / "stack.json", component)

            async def finished() -> bool:
                return bool(await database.fetchval("SELECT bool_and(finished_at IS NOT NULL) FROM expiry_scan"))

            await eventually(finished, 40, "the scan is finished")
            events = await database.fetch("SELECT event_id FROM event")
            scans = [dict(scan) for scan in await database.fetch("SELECT * FROM expiry_scan")]

            async def delivered() -> bool:
                statement = "SELECT count(*) FROM delivery WHERE status = 'delivered'"
                return int(await database.fetchval(statement)) == DUE

            await eventually(delivered, 60, "every notice is delivered")
            print(f"\n{len(events)} events of {DUE} due rows, {len(KILLS)} kills, {time.monotonic() - began:.0f} s")
            assert len(events) == DUE
            assert {event["event_id"] for event in events} == expected
            assert_counted_once(scans)
            got = [json.loads(request.body) for request in receiver.requests]
            assert len({body["messageId"] for body in got}) == DUE
        await database.close()


def assert_counted_once(scans: list[dict[str, Any]]) -> None:
    """Counts are written with the events, so they are right too, whatever died."""
    [scan] = scans
    assert (scan["scanned"], scan["emitted"], scan["known"], scan["dropped"]) == (DUE, DUE, 0, 0)
