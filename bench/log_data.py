"""A long log of deliveries, written by COPY: `python -m bench.log_data --server postgresql://… [--keep NAME]`.

A million deliveries with their events and attempts, of two stores and thirty days, in about a minute. Tests and
measurements load it into databases of their own; from the command line it stays, in a new database of that name.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.log_rows import (
    ATTEMPT_COLUMNS,
    BODY_COLUMNS,
    DELIVERY_COLUMNS,
    EVENT_COLUMNS,
    OUTAGE_HOURS,
    Destination,
    LogWriter,
    destinations,
    now,
)
from domain.durations import UPPER_BOUNDS_MS
from domain.events.catalogue import CATALOGUE
from storage.database import Database
from storage.events.days import make_days
from storage.migrate import migrate

STORE = "default"
OTHER_STORE = "outlet"
RARE_EVENT = "CampaignEffectWasApplied"
CHUNK_DELIVERIES = 50_000  # in memory at once, and in one transaction


@dataclass(frozen=True)
class LogShape:
    """What the log consists of: deliveries to `subscriptions` of a store, unevenly, over `days` until now.

    One more subscription is rare: RARE_DELIVERIES rows, all of the first hour. With `other_store` a quarter of the
    subscriptions, and of the deliveries, are OTHER_STORE's.
    """

    deliveries: int
    subscriptions: int = 60
    days: float = 30
    other_store: bool = False


RARE_DELIVERIES = 3
RARE_URL = "https://rare.example.com/hooks/loyalty"
RARE_SUBSCRIPTION = UUID("00000000-0000-4000-8000-00000000ffff")

_STORE = text("INSERT INTO store (code, name) VALUES (:code, :code) ON CONFLICT DO NOTHING")
_SUBSCRIPTION = text("""
INSERT INTO subscription (id, store_code, event_name, url, name, created_at)
VALUES (:id, :store, :event_name, :url, :name, now() - interval '60 days')
""")
_RARE_DELIVERIES = text("""
INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status, attempts,
    created_at, ended_at)
SELECT gen_random_uuid(), :store, gen_random_uuid(), :name, :id, 'main', :url, 'delivered', 1,
    now() - make_interval(secs => :days * 86400) + number * interval '1 minute', now()
FROM generate_series(1, CAST(:count AS int)) AS number
""")
_DOWN = text("""
INSERT INTO subscription_health (subscription_id, failures_in_row, failing_since, breaker_opened_at, probe_at,
    probe_interval_seconds)
SELECT id, 20, now() - make_interval(hours => :hours), now() - make_interval(hours => :hours), now() + interval '9 min',
    600
FROM unnest(CAST(:ids AS uuid[])) AS down (id)
""")
# As the worker counts them, had it made these attempts.
_COUNTS = (
    """
INSERT INTO attempts_of_minute (store_code, minute, outcome, step, writer_id, count)
SELECT store_code, date_trunc('minute', outcome_at, 'UTC'), outcome, step, worker_id, count(*) FROM counted
GROUP BY 1, 2, 3, 4, 5
""",
    """
INSERT INTO attempts_of_hour (subscription_id, hour, outcome, writer_id, count)
SELECT subscription_id, date_trunc('hour', outcome_at, 'UTC'), outcome, worker_id, count(*) FROM counted
GROUP BY 1, 2, 3, 4
""",
)
_COUNTED = """
CREATE TEMPORARY TABLE counted ON COMMIT DROP AS
SELECT delivery.store_code, delivery.subscription_id, attempt.outcome_at, attempt.worker_id,
    CASE WHEN attempt.failure IS NULL THEN 'delivered'
        WHEN delivery.status = 'exhausted' AND attempt.number = delivery.attempts THEN 'given_up'
        ELSE 'failed' END AS outcome,
    (SELECT count(*) FROM unnest(CAST(:bounds AS int[])) AS bound WHERE bound < attempt.duration_ms) AS step
FROM attempt JOIN delivery USING (accepted_on, message_id)
WHERE attempt.outcome_at > now() - interval '8 days' AND delivery.created_at > now() - interval '9 days'
"""
_WORKER = text("INSERT INTO worker (id, host, pid) VALUES (gen_random_uuid(), 'worker-1', 1)")


async def load_log(database: Database, names: Sequence[str], shape: LogShape) -> None:
    """Fill an empty, migrated database; `names` are the event names that occur (RARE_EVENT is added)."""
    of_other = shape.subscriptions // 4 if shape.other_store else 0
    places = destinations(STORE, names, 1, shape.subscriptions - of_other)
    places += destinations(OTHER_STORE, names, shape.subscriptions - of_other + 1, of_other)
    async with database.transaction() as connection:
        await _prepare(connection, places, shape)
    last = now()
    await make_days(database, (last - timedelta(days=shape.days)).date(), last.date())
    # Interleaved, so that both stores have common and rare subscriptions.
    mixed = sorted(places, key=lambda one: (one.id.int * 7919) % 1009)
    for chunk in LogWriter(mixed, shape.deliveries, shape.days, last).chunks(CHUNK_DELIVERIES):
        async with database.transaction() as connection:
            await _copy(connection, "event", EVENT_COLUMNS, chunk.events)
            await _copy(connection, "event_body", BODY_COLUMNS, chunk.bodies)
            await _copy(connection, "delivery", DELIVERY_COLUMNS, chunk.deliveries)
            await _copy(connection, "attempt", ATTEMPT_COLUMNS, chunk.attempts)
    async with database.transaction() as connection:
        await _count(connection)
    async with database.engine.connect() as connection:
        autocommitting = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommitting.execute(text("VACUUM (ANALYZE)"))


async def _prepare(connection: AsyncConnection, places: Sequence[Destination], shape: LogShape) -> None:
    """Stores, subscriptions, what is known of their receivers, and the rare deliveries."""
    rare = Destination(RARE_SUBSCRIPTION, STORE, RARE_EVENT, RARE_URL, 1, 1)
    for code in sorted({STORE, *(one.store_code for one in places)}):
        await connection.execute(_STORE, {"code": code})
    rows = [
        {"id": one.id, "store": one.store_code, "event_name": one.event_name, "url": one.url, "name": name}
        for number, one in enumerate([*places, rare], start=1)
        for name in [f"{one.event_name} to receiver {number}"]
    ]
    await connection.execute(_SUBSCRIPTION, rows)
    common = {"store": STORE, "name": RARE_EVENT, "id": RARE_SUBSCRIPTION, "url": RARE_URL, "days": shape.days}
    await connection.execute(_RARE_DELIVERIES, {**common, "count": RARE_DELIVERIES})
    await connection.execute(_DOWN, {"ids": [one.id for one in places if one.down], "hours": OUTAGE_HOURS})
    await connection.execute(_WORKER)


async def _copy(connection: AsyncConnection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_records_to_table(table, records=rows, columns=columns)


async def _count(connection: AsyncConnection) -> None:
    await connection.execute(text(_COUNTED), {"bounds": list(UPPER_BOUNDS_MS[:-1])})
    for statement in _COUNTS:
        await connection.execute(text(statement))


async def keep(server: str, name: str, shape: LogShape) -> None:
    """A new database of that name on the server, with the log in it."""
    admin = await asyncpg.connect(f"{server}/postgres")
    await admin.execute(f'CREATE DATABASE "{name}"')
    await admin.close()
    async with Database(f"{server}/{name}", pool_size=2) as database:
        await migrate(database)
        began = time.perf_counter()
        await load_log(database, [one for one in CATALOGUE if one != RARE_EVENT], shape)
        print(f"{shape.deliveries:,} deliveries in {server}/{name}, loaded in {time.perf_counter() - began:.0f} s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("TEST_POSTGRES_URL"), help="PostgreSQL, without a database")
    parser.add_argument("--keep", default="loyalty_log", help="Name of the new database")
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=30)
    arguments = parser.parse_args()
    shape = LogShape(arguments.deliveries, days=arguments.days, other_store=True)
    asyncio.run(keep(arguments.server, arguments.keep, shape))


if __name__ == "__main__":
    main()
