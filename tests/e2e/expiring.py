"""A day of expiry rows in a store of its own, and what a scan of that day has to make of them.

The ledger is the rows themselves: which of them are due is known before, and the ids of their notices are derived here.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx

from domain.expiry.rows import Kind, notice_id
from local.stack_file import Stack
from tests.deadlines import eventually
from tests.receiver import Receiver

DUE = 2_000
OTHERS = 300
DAY = datetime(2031, 3, 1, tzinfo=UTC)


@dataclass
class Scanned:
    """The store, its database and the receiver of its notices."""

    store: str
    client: httpx.AsyncClient
    database: asyncpg.Connection
    receiver: Receiver
    expected: set[UUID] = field(default_factory=set)
    """Ids of the notices of the rows that are due."""

    @classmethod
    @asynccontextmanager
    async def in_store_of_its_own(cls, stack: Stack) -> AsyncIterator["Scanned"]:
        """A new store of the stack."""
        database = await asyncpg.connect(stack.database)
        headers = {"X-AUTH-TOKEN": stack.api_key}
        async with (
            Receiver() as receiver,
            httpx.AsyncClient(base_url=stack.api, headers=headers, trust_env=False, timeout=20) as client,
        ):
            answer = await client.post("/api/admin/store", json={"store": {"storeCode": "expiring"}})
            assert answer.status_code == 200, answer.text
            yield cls("expiring", client, database, receiver)
        await database.close()

    async def fill(self) -> None:
        """Store rows that expire on the day, and others right before and behind it or unable to expire."""
        due = {uuid4(): DAY + timedelta(seconds=number * 40) for number in range(DUE)}
        others = {
            uuid4(): [DAY - timedelta(microseconds=1), DAY + timedelta(days=1), DAY + timedelta(hours=1)][number % 3]
            for number in range(OTHERS)
        }
        records = [(self.store, id_, uuid4(), 1, "add", "active", instant, DAY) for id_, instant in due.items()]
        for id_, instant in others.items():
            status = "active" if not DAY <= instant < DAY + timedelta(days=1) else "cancelled"
            records.append((self.store, id_, uuid4(), 1, "add", status, instant, DAY))
        columns = ("store_code", "transfer_id", "customer_id", "points", "type", "status", "expires_at", "updated_at")
        await self.database.copy_records_to_table("point_transfer", records=records, columns=columns)
        self.expected = {notice_id(self.store, Kind.POINTS, id_, instant) for id_, instant in due.items()}

    async def begin(self) -> None:
        """Subscribe to the notices, and trigger the scan as soon as the store has its schedules."""
        subscription = {"eventName": "PointsWillExpire", "url": self.receiver.url("/notices")}
        path = f"/api/{self.store}/webhook/subscription"
        answer = await self.client.post(path, json={"webhookSubscription": subscription})
        assert answer.status_code == 200, answer.text

        async def triggered() -> bool:
            path = f"/api/{self.store}/schedule/points/trigger"
            return (await self.client.post(path, json={"day": DAY.date().isoformat()})).status_code == 202

        await eventually(triggered, 30, "the scan is triggered")

    async def until_emitted(self, events: int) -> None:
        """Wait until so many notices are there, so that a kill falls into the middle of the scan."""

        async def emitted() -> bool:
            statement = "SELECT count(*) >= $2 FROM event WHERE store_code = $1"
            return bool(await self.database.fetchval(statement, self.store, events))

        await eventually(emitted, 40, f"{events} notices")

    async def until_finished(self) -> None:
        """Wait until the scan has seen all rows."""

        async def finished() -> bool:
            statement = "SELECT bool_and(finished_at IS NOT NULL) FROM expiry_scan WHERE store_code = $1"
            return bool(await self.database.fetchval(statement, self.store))

        await eventually(finished, 40, "the scan is finished")

    async def assert_each_once_and_delivered(self) -> None:
        """Each due row has made one event, which arrives; counts are written with the events, so they are right too."""
        events = await self.database.fetch("SELECT event_id FROM event WHERE store_code = $1", self.store)
        assert len(events) == DUE
        assert {event["event_id"] for event in events} == self.expected
        [scan] = await self.database.fetch("SELECT * FROM expiry_scan WHERE store_code = $1", self.store)
        assert (scan["scanned"], scan["emitted"], scan["known"], scan["dropped"]) == (DUE, DUE, 0, 0)

        async def delivered() -> bool:
            statement = "SELECT count(*) FROM delivery WHERE store_code = $1 AND status = 'delivered'"
            return int(await self.database.fetchval(statement, self.store)) == DUE

        await eventually(delivered, 60, "every notice is delivered")
        got = [json.loads(request.body) for request in self.receiver.requests]
        assert len({body["messageId"] for body in got}) == DUE
