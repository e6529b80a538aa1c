"""What tests put into a database and read back from it: stores, subscriptions, events, deliveries, attempts."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from storage.database import Database
from tests.deadlines import eventually

STORE = "default"

EVENT_WITH_BODY = "event JOIN event_body USING (accepted_on, store_code, event_id)"
"""What a test selects an event and its data from."""


def today() -> date:
    """The UTC day now, which may not be the one on which the run began."""
    return datetime.now(UTC).date()


@dataclass
class Ground:
    """A database with a store, and what a test does with it."""

    database: Database

    async def execute(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement in a transaction of its own; its rows, if any."""
        async with self.database.transaction() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    async def scalar(self, statement: str, **values: Any) -> Any:
        """The one value of the one row of a statement."""
        [[value]] = await self.execute(statement, **values)
        return value

    async def clear(self) -> None:
        """Empty the tables of the pipeline, but for those that are empty: a third of the cost of emptying all."""
        tables = (
            *("event", "event_body", "delivery", "attempt", "subscription", "subscription_health", "worker", "notice"),
            *("store_operator", "attempts_of_minute", "attempts_of_hour", "limiter_lease", "format_migration"),
            *("subscription_throttle", "expiry_scan", "expiry_coverage"),
        )
        filled = await self.scalar(
            """
            SELECT string_agg(CAST(oid AS regclass)::text, ', ') FROM pg_class
            WHERE relkind = 'r' AND pg_relation_size(oid) > 0
                AND CAST(coalesce(pg_partition_root(oid), oid) AS regclass)::text = ANY(:tables)
            """,
            tables=list(tables),
        )
        if filled is not None:
            await self.execute(f"TRUNCATE {filled} CASCADE")

    async def add_store(self, code: str = STORE) -> None:
        """Insert a store unless it is there."""
        await self.execute("INSERT INTO store (code, name) VALUES (:code, 'A store') ON CONFLICT DO NOTHING", code=code)

    async def subscribe(self, event_name: str, url: str, **columns: Any) -> UUID:
        """Insert a subscription; `columns` as in storage/subscriptions/tables.py."""
        values: dict[str, Any] = {"id": uuid4(), "store_code": STORE, "event_name": event_name, "url": url} | columns
        names = ", ".join(values)
        await self.execute(
            f"INSERT INTO subscription ({names}) VALUES ({', '.join(':' + name for name in values)})", **values
        )
        identity: UUID = values["id"]
        return identity

    async def edit(self, subscription_id: UUID, **columns: Any) -> None:
        """Change columns of a subscription."""
        changes = ", ".join(f"{name} = :{name}" for name in columns)
        await self.execute(f"UPDATE subscription SET {changes} WHERE id = :id", id=subscription_id, **columns)

    async def emit(
        self, event_name: str, data: str, count: int = 1, *, store: str = STORE, sealed_data: bytes | None = None
    ) -> list[UUID]:
        """Insert events as the API does, and notify the relay."""
        ids = [uuid4() for _ in range(count)]
        await self.execute(
            """
            WITH inserted AS (
                INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest)
                SELECT :store, id, :name, now(), '2026-01-02T03:04:05Z', ''
                FROM unnest(CAST(:ids AS uuid[])) AS id
                RETURNING accepted_on, store_code, event_id
            )
            INSERT INTO event_body (accepted_on, store_code, event_id, data, sealed_data)
            SELECT accepted_on, store_code, event_id, :data, CAST(:sealed AS bytea) FROM inserted
            """,
            store=store,
            name=event_name,
            data=data,
            sealed=sealed_data,
            ids=ids,
        )
        await self.execute("SELECT pg_notify('outbox', '')")
        return ids

    async def deliveries(self) -> list[Any]:
        """All deliveries, oldest first."""
        return await self.execute("SELECT * FROM delivery ORDER BY created_at, message_id")

    async def attempts(self, message_id: UUID) -> list[Any]:
        """The attempts of one delivery."""
        return await self.execute("SELECT * FROM attempt WHERE message_id = :id ORDER BY number", id=message_id)

    async def statuses(self) -> dict[str, int]:
        """How many deliveries there are of each status."""
        rows = await self.execute("SELECT status, count(*) FROM delivery GROUP BY status")
        return {row.status: row.count for row in rows}

    async def until_statuses(self, expected: dict[str, int], deadline_seconds: float = 20) -> None:
        """Wait until there are just so many deliveries of each status."""

        async def reached() -> bool:
            return await self.statuses() == expected

        await eventually(reached, deadline_seconds, f"deliveries {expected}")
