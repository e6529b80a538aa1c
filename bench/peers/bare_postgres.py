"""A bare worker on PostgreSQL: what no design with a log of attempts can reach. It keeps no log and never gives up.

An event is a row; a claim takes up to a hundred of them by SKIP LOCKED with a lease, their deliveries are made at once,
and one statement deletes those that went well. What is left is claimed again when its lease lapses.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import orjson
import uvloop

from bench.peers.senders import LoopSender
from bench.peers.work import Event, subscriptions

CLAIMED_AT_ONCE = 100
CLAIMERS = 3
"""While one waits for the database, another waits for its receiver."""

POLL_SECONDS = 0.02
LEASE_SECONDS = 30

TABLE = """
CREATE TABLE IF NOT EXISTS event (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event text NOT NULL, claimed_until timestamptz
)"""
INSERT = "INSERT INTO event (event) SELECT unnest($1::text[])"
CLAIM = f"""
UPDATE event SET claimed_until = now() + interval '{LEASE_SECONDS} s' WHERE sequence = ANY(ARRAY(
    SELECT sequence FROM event WHERE claimed_until IS NULL OR claimed_until < now()
    ORDER BY sequence LIMIT {CLAIMED_AT_ONCE} FOR UPDATE SKIP LOCKED))
RETURNING sequence, event"""
DONE = "DELETE FROM event WHERE sequence = ANY($1::bigint[])"


async def connect() -> asyncpg.Connection:
    """A connection to the database in the environment, with the table in it."""
    connection = await asyncpg.connect(os.environ["BENCH_POSTGRES"])
    await connection.execute("SELECT pg_advisory_lock(1)")  # two who make the table at once would collide
    await connection.execute(TABLE)
    await connection.execute("SELECT pg_advisory_unlock(1)")
    return connection


@asynccontextmanager
async def emitting() -> AsyncIterator[Callable[[Sequence[Event]], Awaitable[None]]]:
    """What inserts events, a batch in one statement."""
    connection = await connect()

    async def emit(events: Sequence[Event]) -> None:
        await connection.execute(INSERT, [orjson.dumps(event).decode() for event in events])

    try:
        yield emit
    finally:
        await connection.close()


async def deliver_event(sender: LoopSender, event: Event) -> None:
    """Every delivery of an event."""
    await asyncio.gather(*(sender.deliver(event, str(one.id)) for one in subscriptions(str(event["eventName"]))))


async def claim_and_deliver(sender: LoopSender) -> None:
    """Take events and deliver them, for ever."""
    connection = await connect()
    while True:
        rows = await connection.fetch(CLAIM)
        if not rows:
            await asyncio.sleep(POLL_SECONDS)
            continue
        results = await asyncio.gather(
            *(deliver_event(sender, orjson.loads(row["event"])) for row in rows), return_exceptions=True
        )
        done = [row["sequence"] for row, result in zip(rows, results, strict=True) if result is None]
        await connection.execute(DONE, done)


async def work() -> None:
    """All claimers until ended."""
    sender = LoopSender()
    await asyncio.gather(*(claim_and_deliver(sender) for _ in range(CLAIMERS)))


if __name__ == "__main__":
    uvloop.run(work())
