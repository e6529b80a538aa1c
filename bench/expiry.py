"""A day with many rows that expire: `python -m bench.expiry [--help]`.

How long a scan takes from its trigger until every notice stands in the event log, what it costs the worker in memory,
that other rows cost nothing, and what a live event of another store feels meanwhile. Each scenario has a stack of its
own; every figure comes from one run on this machine.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from bench.live import live_receiver
from bench.pipeline import RESULTS, machine
from bench.stack import Bench, bench_stack

DAY = datetime(2031, 3, 1, tzinfo=UTC)
OTHER_DAYS = 360
CHUNK_ROWS = 250_000  # of one transaction
SAMPLE_SECONDS = 0.2
IDLE_SECONDS = 15
DEADLINE_SECONDS = 600

# Every so many rows one is due; the others lie in the days around it.
_ROWS = """
INSERT INTO point_transfer (store_code, transfer_id, customer_id, account_id, points, remaining_points, type, status,
    expires_at, updated_at, customer_email, customer_first_name, customer_last_name)
SELECT $1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 120, 80, 'add', 'active',
    $2::timestamptz + (CASE WHEN n % $5::int = 0 THEN 0 ELSE 1 + n % $6::int - $6::int / 2 END) * interval '1 day'
        + (n % 86400) * interval '1 second',
    now(), 'member@example.com', 'Alex', 'Example'
FROM generate_series($3::int, $4::int) AS n
"""


@dataclass(frozen=True)
class Shape:
    """Rows in the table, rows due on the day, and whether somebody is subscribed to the notices."""

    rows: int
    due: int
    delivering: bool = False
    live: bool = False


async def fill(database: asyncpg.Connection, store: str, shape: Shape) -> None:
    """Fill the table as an import does, then let PostgreSQL look after it."""
    every = shape.rows // shape.due
    for first in range(1, shape.rows + 1, CHUNK_ROWS):
        last = min(first + CHUNK_ROWS - 1, shape.rows)
        await database.execute(_ROWS, store, DAY, first, last, every, OTHER_DAYS)
    # Day 0 of the others falls on the day itself; it goes, so that as many are due as were asked for.
    await database.execute(
        "DELETE FROM point_transfer WHERE ctid IN (SELECT ctid FROM point_transfer WHERE expires_at >= $1 "
        "AND expires_at < $1 + interval '1 day' OFFSET $2)",
        DAY,
        shape.due,
    )
    await database.execute("VACUUM (ANALYZE) point_transfer")


class Memory:
    """The worker's resident memory, sampled."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.samples: list[float] = []

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self.samples.append(self._bench.memory_mb("worker"))
            await asyncio.sleep(SAMPLE_SECONDS)


async def until(database: asyncpg.Connection, condition: str) -> None:
    """Until the SQL condition holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await database.fetchval(f"SELECT {condition}"):
            await asyncio.sleep(SAMPLE_SECONDS)


async def scan(bench: Bench, database: asyncpg.Connection, day: datetime) -> dict[str, Any]:
    """Trigger a day and wait for it; what the API says of it."""
    path = f"{bench.store_path}/schedule/points"
    before = await database.fetchval("SELECT count(*) FROM expiry_scan")
    answer = await bench.api.post(f"{path}/trigger", json={"day": day.date().isoformat()})
    answer.raise_for_status()
    await until(database, f"count(finished_at) > {before} FROM expiry_scan")
    told: dict[str, Any] = (await bench.api.get(path)).json()["lastScan"]
    return told


async def measure(shape: Shape) -> dict[str, Any]:
    """One scan of the whole day, and what is around it."""
    async with bench_stack() as bench, live_receiver() as live:
        database = await asyncpg.connect(bench.facts["database"])
        began = time.monotonic()
        await fill(database, bench.facts["store"], shape)
        figures: dict[str, Any] = {"rows": shape.rows, "due": shape.due, "filled_seconds": _since(began)}
        if shape.delivering:
            await bench.subscribe("PointsWillExpire", "/notices")
        await scan(bench, database, DAY + timedelta(days=OTHER_DAYS * 2))  # an empty day, so that all is loaded
        if shape.live:
            await live.prepare(bench)
            figures["live_idle"] = await live.during(bench, asyncio.sleep(IDLE_SECONDS))
        memory = Memory(bench)
        watching = asyncio.create_task(memory.watch())
        try:
            cpu, began = bench.cpu_seconds(), time.monotonic()
            if shape.live:
                figures["live_meanwhile"] = await live.during(bench, scan(bench, database, DAY))
            else:
                await scan(bench, database, DAY)
            figures["emitted_seconds"] = _since(began)
            figures["cpu_seconds"] = {name: round(now - cpu[name], 1) for name, now in bench.cpu_seconds().items()}
            await until(database, "NOT EXISTS (SELECT FROM event WHERE matched_at IS NULL)")
            figures["matched_seconds"] = _since(began)
            if shape.delivering:
                stats = await bench.until_received(shape.due, DEADLINE_SECONDS)
                figures["delivered_seconds"] = _since(began)
                figures["delivered_twice"] = stats["repeated"]
        finally:
            watching.cancel()
        figures["emitted"] = await database.fetchval("SELECT count(*) FROM event WHERE name = 'PointsWillExpire'")
        figures["worker_memory_mb"] = {
            "before": memory.samples[0],
            "peak": max(memory.samples),
            "growth": round(max(memory.samples) - memory.samples[0], 1),
        }
        await database.close()
        return figures


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


SCENARIOS = {
    "expiry-1m": Shape(1_000_000, 100_000),
    "expiry-delivering": Shape(1_000_000, 100_000, delivering=True),
    "expiry-live": Shape(300_000, 15_000, delivering=True, live=True),
}


def main() -> None:
    """Run scenarios and keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help=f"of {', '.join(SCENARIOS)}; none: all")
    for name in parser.parse_args().scenario or SCENARIOS:
        result = {"scenario": name, "machine": machine(), "figures": asyncio.run(measure(SCENARIOS[name]))}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
