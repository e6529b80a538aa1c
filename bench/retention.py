"""What it takes to let a day go: `python -m bench.retention [--deliveries 1000000]`.

Starts a stack of its own, loads days of that many deliveries each by COPY, and applies retention to two: of one nothing
stays, of the other what did not arrive. Prints how long thinning a day took (the exchange of its partitions, in
which the room comes back), how long deleting its deliveries in pages took, and how long the slowest emit of the API
took meanwhile; keeps it in `bench/results/`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bench.log_data import RARE_EVENT, LogShape, load_log
from bench.pipeline import RESULTS, event_line, machine
from bench.stack import Bench, bench_stack
from commands.database.connection import LOCK_NOT_AVAILABLE
from domain.events.catalogue import CATALOGUE
from domain.retention import RetentionRules
from storage.access.stores import list_stores
from storage.database import Database
from storage.events.retention import ThinDay, Thinned, clear_page, cleared, days_to_thin, thin_day

EMIT_PAUSE_SECONDS = 0.02
TRY_AGAIN_SECONDS = 2.0
NOTHING_STAYS = RetentionRules(days=0, exhausted_days=0, event_id_days=400)
WHAT_FAILED_STAYS = RetentionRules(days=0, exhausted_days=90, event_id_days=400)


class Emits:
    """What the API took to accept single events meanwhile, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @asynccontextmanager
    async def measured(self, bench: Bench) -> AsyncIterator[None]:
        """One after the other for as long as the block lasts."""

        async def emit() -> None:
            while True:
                began = time.perf_counter()
                answer = await bench.api.post(f"{bench.store_path}/event", json={"event": event_line()})
                answer.raise_for_status()
                self.seconds.append(time.perf_counter() - began)
                await asyncio.sleep(EMIT_PAUSE_SECONDS)

        task = asyncio.create_task(emit())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def run(deliveries: int) -> list[dict[str, Any]]:
    """Load, apply, measure."""
    async with bench_stack() as bench, Database(bench.facts["database"], pool_size=2) as database:
        # The days before today's are whole but for the first.
        await load_log(database, [one for one in CATALOGUE if one != RARE_EVENT], LogShape(3 * deliveries, days=3))
        async with database.transaction() as connection:
            days = list(await connection.scalars(text("SELECT DISTINCT accepted_on FROM event_body ORDER BY 1")))
        emits = Emits()
        async with emits.measured(bench):
            return [
                await _let_go(database, days[1], NOTHING_STAYS, "nothing stays", emits),
                await _let_go(database, days[2], WHAT_FAILED_STAYS, "what did not arrive stays", emits),
            ]


async def _thin(database: Database, due: ThinDay, rules: RetentionRules) -> tuple[Thinned, float, int]:
    """What thinning a day came to, the seconds it took, and how often it was tried, as a worker tries: a vacuum of what
    was just loaded may be in its way, and it gives way."""
    tries = 1
    while True:
        began = time.perf_counter()
        try:
            return await thin_day(database, due, rules), time.perf_counter() - began, tries
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        tries += 1
        await asyncio.sleep(TRY_AGAIN_SECONDS)


async def _let_go(database: Database, day: date, rules: RetentionRules, what: str, emits: Emits) -> dict[str, Any]:
    async with database.transaction() as connection:
        [due] = [one for one in await days_to_thin(connection, rules) if one.day == day]
        before = await connection.scalar(text("SELECT count(*) FROM event_body WHERE accepted_on = :day"), {"day": day})
        stores = await list_stores(connection)
    emits.seconds.clear()
    thinned, thin_seconds, tries = await _thin(database, due, rules)
    slowest = max(emits.seconds, default=0.0)
    deleted, began = 0, time.perf_counter()
    for store in stores:
        behind = None
        while True:
            async with database.transaction() as connection:
                page = await clear_page(connection, due, store.code, behind, rules)
            deleted, behind = deleted + page.deleted, page.more_behind
            if behind is None:
                break
    async with database.transaction() as connection:
        await cleared(connection, day)
    return {
        "day": what,
        "bodies": before,
        "bodies_kept": thinned.bodies_kept,
        "mb_freed": round(thinned.bytes_freed / 1e6),
        "thin_seconds": round(thin_seconds, 2),
        "tries": tries,
        "slowest_emit_ms": round(slowest * 1e3),
        "deliveries_deleted": deleted,
        "clear_seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=1_000_000, help="Of one day")
    arguments = parser.parse_args()
    before = machine()
    days = asyncio.run(run(arguments.deliveries))
    result = {
        "scenario": "retention",
        "machine": before,
        "figures": {"deliveries_a_day": arguments.deliveries, "days": days},
    }
    (RESULTS / "retention.json").write_text(json.dumps(result, indent=1) + "\n")
    table = Table(title=f"A day of {arguments.deliveries:,} deliveries goes")
    for column in days[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "day" else "right")
    for day in days:
        table.add_row(*(f"{value:,}" if isinstance(value, int | float) else value for value in day.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
