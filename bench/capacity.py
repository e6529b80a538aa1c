"""From what one delivery costs to what a day of them needs: `python -m bench.capacity [--help]`.

    python -m bench.capacity measure          bytes of a delivery in both databases, on a stack of its own
    python -m bench.capacity                  the table, from the figures kept in bench/results/
    python -m bench.capacity --write          the same into docs/capacity.md

CPU comes from burst-1.json and burst-5.json (an event's cost and a delivery's, told apart by the two) and failing.json,
bytes from unit-costs.json, those of a waiting retry from a Temporal server on PostgreSQL. Assumptions are options.
"""

import argparse
import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg

from bench.pipeline import EVENT, RESULTS, burst_once, keep, machine, warm_up
from bench.stack import bench_stack
from storage.deliveries.retries import MOST_DUE_IN_A_SECOND, MOST_IN_ALL
from temporal.namespace import DEFAULT_RETENTION_DAYS

DAY_SECONDS = 86_400
SIZES = {"1 M": 1e6, "10 M": 1e7, "100 M": 1e8, "1 G": 1e9}
COMPONENTS = ("api", "worker", "postgres", "temporal")
MEASURED_EVENTS = 5_000
VACUUMED_BURSTS = 4
"""After a first one; each uses the room of the rows that the one before it has left dead, as in the long run."""

WAITING_BYTES = 13.4 * 1024
"""Size in Temporal's database of a standalone activity that waits for its start delay: 1,500 of them on a server with
PostgreSQL and 512 history shards (docs/performance.md)."""

TABLES = ("event", "event_body", "delivery", "attempt")
PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
GIB = 2**30


@dataclass(frozen=True)
class Assumptions:
    """What the table takes for granted."""

    peak: float = 5.0
    """The busiest minutes of a day, in times of its mean."""
    fan_out: float = 2.0
    """Deliveries of an event."""
    failing: float = 0.02
    """Share of deliveries whose first attempt fails."""
    wait_hours: float = 1.0
    """How long such a delivery waits for its end, in the mean."""
    utilisation: float = 0.6
    """Share of a core that is to be used at the peak."""
    retention_days: float = 30.0
    """Bodies, deliveries and attempts are kept so long."""
    identity_days: float = 400.0
    """Of an event its row without the body, so that its id is still known when it comes again."""
    temporal_days: float = DEFAULT_RETENTION_DAYS
    """Retention of closed workflows and activities in Temporal."""
    batch_events: float = 600.0
    """Events of one workflow at the peak."""


@dataclass(frozen=True)
class UnitCosts:
    """CPU seconds of each component; bytes."""

    event_cpu: dict[str, float]
    delivery_cpu: dict[str, float]
    retry_cpu: dict[str, float]
    """Of a delivery whose first attempt fails: its activity and its retry, beside the cost of any delivery."""
    stored_bytes: dict[str, float]
    """Of one row of each table, indexes included."""
    wal_bytes: float
    """Of one event with one delivery."""
    batch_bytes: float
    """Of a batch's workflow in Temporal."""
    waiting_bytes: float
    """Of the activity of a delivery that waits for its retry, in Temporal's database."""


def figures(name: str) -> dict[str, Any]:
    """Those kept of a scenario."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    return found


def cpu_of(name: str) -> dict[str, float]:
    """CPU seconds of each component for one delivery, in the median round."""
    rounds = [one["cpu_seconds_per_1000"] for one in figures(name)["rounds"]]
    return {component: median(one[component] for one in rounds) / 1000 for component in COMPONENTS}


def cpu_of_retries() -> dict[str, float]:
    """By the bursts of which every tenth request fails; before these were measured, by the textbook design's cost."""
    if not (RESULTS / "failing.json").exists():
        return {"api": 0.0, "worker": 0.012, "postgres": 0.002, "temporal": 0.023}
    rounds = figures("failing")["rounds"]
    of = {
        kind: {one: median(found[kind]["cpu_seconds_per_1000"][one] for found in rounds) / 1000 for one in COMPONENTS}
        for kind in ("well", "every_tenth_fails")
    }
    return {one: max(0.0, (of["every_tenth_fails"][one] - of["well"][one]) * 10) for one in COMPONENTS}


def unit_costs() -> UnitCosts:
    """From the files: with one subscription a delivery costs event + delivery, with five a fifth of the event's."""
    one, five = cpu_of("burst-1"), cpu_of("burst-5")
    event = {component: max(0.0, (one[component] - five[component]) * 5 / 4) for component in COMPONENTS}
    measured = figures("unit-costs")
    return UnitCosts(
        event_cpu=event,
        delivery_cpu={component: max(0.0, one[component] - event[component]) for component in COMPONENTS},
        retry_cpu=cpu_of_retries(),
        stored_bytes=measured["stored_bytes"],
        wal_bytes=measured["wal_bytes"],
        batch_bytes=measured["batch_bytes"],
        waiting_bytes=WAITING_BYTES,
    )


def sizes(costs: UnitCosts, assumed: Assumptions, per_day: float) -> dict[str, str]:
    """One column of the table: what so many deliveries a day need."""
    mean = per_day / DAY_SECONDS
    peak = mean * assumed.peak
    events = peak / assumed.fan_out
    started = min(peak * assumed.failing, MOST_DUE_IN_A_SECOND)  # retries beyond the limits are held as rows
    retried = dict.fromkeys(COMPONENTS, peak * assumed.failing) | {"temporal": started}
    cores = {
        component: (
            costs.event_cpu[component] * events
            + costs.delivery_cpu[component] * peak
            + costs.retry_cpu[component] * retried[component]
        )
        / assumed.utilisation
        for component in COMPONENTS
    }
    attempts = 1 + assumed.failing
    stored = costs.stored_bytes
    kept = stored["event"] / assumed.fan_out * assumed.identity_days
    kept += (
        stored["event_body"] / assumed.fan_out + stored["delivery"] + stored["attempt"] * attempts
    ) * assumed.retention_days
    wait_seconds = assumed.wait_hours * 3600
    waiting = mean * assumed.failing * wait_seconds
    in_temporal = min(waiting, MOST_IN_ALL)
    workflows = events / assumed.batch_events + started
    temporal_bytes = in_temporal * costs.waiting_bytes + assumed.temporal_days * DAY_SECONDS * (
        mean / assumed.fan_out / assumed.batch_events * costs.batch_bytes
        + in_temporal / wait_seconds * costs.waiting_bytes
    )
    return {
        "deliveries a second, mean and peak": f"{mean:,.0f}, {peak:,.0f}",
        "worker processes of a core": f"{max(2, math.ceil(cores['worker']))}",
        "API processes of a core": f"{max(2, math.ceil(cores['api']))}",
        "cores of PostgreSQL": f"{max(1, math.ceil(cores['postgres']))}",
        "cores of Temporal (here with its database)": f"{max(1, math.ceil(cores['temporal']))}",
        "PostgreSQL's log of writes at the peak": f"{peak * costs.wal_bytes / 1e6:,.1f} MB/s",
        "PostgreSQL, all that is kept": f"{per_day * kept / GIB:,.0f} GiB",
        "workflows and activities started a second at the peak": f"{workflows:,.1f}",
        "deliveries that wait for a retry, and those of them in Temporal": f"{waiting:,.0f}, {in_temporal:,.0f}",
        "Temporal's database": f"{temporal_bytes / GIB:,.1f} GiB",
    }


def table(costs: UnitCosts, assumed: Assumptions) -> str:
    """Markdown: a column for each size."""
    columns = [sizes(costs, assumed, per_day) for per_day in SIZES.values()]
    lines = [f"| deliveries a day | {' | '.join(SIZES)} |", "| --- |" + " ---: |" * len(SIZES)]
    lines += [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def basis(costs: UnitCosts, assumed: Assumptions) -> str:
    """Markdown: unit costs and assumptions."""
    cpu = ["| CPU ms of | an event | a delivery | one that fails at first, more |", "| --- | ---: | ---: | ---: |"]
    for component in COMPONENTS:
        of = [by[component] * 1000 for by in (costs.event_cpu, costs.delivery_cpu, costs.retry_cpu)]
        cpu.append(f"| {component} | {of[0]:.3f} | {of[1]:.3f} | {of[2]:.1f} |")
    stored = ", ".join(f"{name} {size:,.0f}" for name, size in costs.stored_bytes.items())
    return (
        "\n".join(cpu)
        + f"\n\nBytes of a row with its share of indexes: {stored}. Log of\nwrites of an event with one delivery: "
        f"{costs.wal_bytes:,.0f}.\nTemporal: {costs.batch_bytes:,.0f} for a batch of up to {assumed.batch_events:g} "
        f"events,\n{costs.waiting_bytes:,.0f} for the activity of a delivery that waits for its retry (1,500 of them, "
        "server on PostgreSQL, 512 shards:\n[performance](performance.md)).\n\n"
        f"Assumed: a peak of {assumed.peak:g} times the mean, {assumed.fan_out:g} deliveries an event, "
        f"{assumed.failing:.0%} of first attempts failing and waiting\n{assumed.wait_hours:g} h in the mean, cores "
        f"used to {assumed.utilisation:.0%} at the peak, {assumed.retention_days:g} days of log and "
        f"{assumed.identity_days:g} of event ids in\nPostgreSQL, "
        f"{assumed.temporal_days:g} of closed workflows and activities in Temporal."
    )


async def measure() -> dict[str, Any]:
    """Bytes of a burst in both databases."""
    async with bench_stack() as bench:
        await bench.subscribe(EVENT, "/capacity")
        await warm_up(bench, 1)
        database = await asyncpg.connect(bench.facts["database"])
        await database.execute("CHECKPOINT")
        wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8"
        batches = "SELECT count(DISTINCT workflow_id) FROM event"
        logged, begun, temporal = (
            await database.fetchval(wal),
            await database.fetchval(batches),
            _temporal(bench.directory),
        )
        await burst_once(bench, MEASURED_EVENTS, 1)
        logged, begun = await database.fetchval(wal) - logged, await database.fetchval(batches) - begun
        temporal = _temporal(bench.directory) - temporal
        await database.execute("VACUUM (ANALYZE)")
        before = {name: await _size(database, name) for name in TABLES}
        for _ in range(VACUUMED_BURSTS):
            await burst_once(bench, MEASURED_EVENTS, 1)
            await database.execute("VACUUM (ANALYZE)")
        after = {name: await _size(database, name) for name in TABLES}
        await database.close()
    events = VACUUMED_BURSTS * MEASURED_EVENTS
    return {
        "events": MEASURED_EVENTS,
        "stored_bytes": {name: round((after[name] - before[name]) / events) for name in TABLES},
        "wal_bytes": round(logged / MEASURED_EVENTS),
        "batches": begun,
        "batch_bytes": round(temporal / max(begun, 1)),
    }


# Of a table by days that is the sum over its partitions.
_TABLE_BYTES = """
SELECT (pg_total_relation_size($1::regclass)
    + (SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = $1::regclass)
)::float8
"""


async def _size(database: asyncpg.Connection, table_name: str) -> float:
    whole: float = await database.fetchval(_TABLE_BYTES, table_name)
    return whole


def _temporal(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("temporal.db*"))


def write(text: str) -> None:
    """Put the figures where the page has its marks."""
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["table", "measure"], default="table")
    parser.add_argument("--write", action="store_true", help="into docs/capacity.md instead of printing")
    for name, default in vars(Assumptions()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    arguments = vars(parser.parse_args())
    what, into_page = arguments.pop("what"), arguments.pop("write")
    if what == "measure":
        before = machine()
        keep("unit-costs", asyncio.run(measure()), before)
        return
    costs, assumed = unit_costs(), Assumptions(**arguments)
    text = f"{table(costs, assumed)}\n\n{basis(costs, assumed)}"
    if into_page:
        write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
