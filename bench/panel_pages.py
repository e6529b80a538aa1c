"""How long the admin panel's pages take over a long log: `python -m bench.panel_pages [--deliveries 1000000]`.

Starts a stack of its own, loads that many deliveries by COPY, logs in as its administrator, and asks for every page
that is looked at, one at a time; the pages are those of the routes. The time is from the request to the last byte of
the answer. Prints a table, keeps it in `bench/results/`, and fails where a page's p95 is above LIMIT_MS.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from api.deliveries.service import write_cursor
from api.panel.app import named_routes
from api.panel.frame.sessions import PATH
from bench.api_process import share
from bench.log_data import RARE_EVENT, STORE, LogShape, load_log
from bench.pipeline import RESULTS, machine
from bench.stack import bench_stack
from domain.events.catalogue import CATALOGUE
from domain.expiry.rows import Kind
from storage.database import Database
from storage.deliveries.log import Position

LIMIT_MS = 200
WARM_REQUESTS = 3  # of each page, not counted: what is measured is a service that runs
ON_A_PAGE = 25
RECOVERED = 50_000  # deliveries that a recovery opened, whose progress is counted

PARAMETERS = frozenset(
    {"storeCode", "messageId", "eventId", "webhookSubscriptionId", "bulkActionId", "expiryKind", "eventName"}
)
"""The parameters of paths for which `_values` finds something in the log."""

VARIANTS: Mapping[str, Mapping[str, str]] = {
    "dashboard.shown": {"": "", "24 hours": "span=day"},
    "deliveries.listed": {
        "": "",
        "one webhook": "webhookSubscriptionId={webhookSubscriptionId}",
        "pending": "status=pending",
        "exhausted, one event": "status=exhausted&eventName={eventName}",
        "of a day": "createdAt[from]={day}&createdAt[to]={day}",
        "from the middle": "_cursor={middle}",
    },
    "deliveries.fresh": {"": "_cursor={newest}&open={open}"},
    "deliveries.chosen": {"": "{chosen}"},
    "deliveries.filtered": {
        "exhausted": "webhookSubscriptionId={webhookSubscriptionId}&status=exhausted",
        "all delivered": "webhookSubscriptionId={webhookSubscriptionId}&status=delivered",
    },
    "deliveries.found": {"": "", "an id": "id={eventId}"},
}
"""Queries of pages that take some, by what the table calls them."""

_VALUES = {
    "webhookSubscriptionId": """
        SELECT subscription_id FROM delivery WHERE store_code = :store AND event_name = ANY(:names)
        GROUP BY 1 ORDER BY count(*) DESC LIMIT 1
    """,
    "messageId": """
        SELECT message_id FROM delivery WHERE store_code = :store AND status = 'exhausted'
        ORDER BY attempts DESC, message_id LIMIT 1
    """,
    "eventId": "SELECT event_id FROM delivery WHERE store_code = :store GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
    "day": "SELECT CAST(now() - interval '15 days' AS date)",
}
_LEGACY = text("UPDATE subscription SET legacy = true WHERE id = :id")  # so that there is something to migrate
_ACT = """
INSERT INTO bulk_action (id, kind, store_code, subscription_id, since, until, statuses, count, opened, all_open,
    status, ended_at)
SELECT gen_random_uuid(), 'recover', :store, :id, now() - interval '30 days', now(), '{delivered}', :count, :count,
    true, 'finished', now()
RETURNING id
"""
_OF_ACT = """
UPDATE delivery SET bulk_action_id = :act WHERE message_id IN (
    SELECT message_id FROM delivery WHERE subscription_id = :id LIMIT :count)
"""


@dataclass(frozen=True)
class MeasuredPage:
    """One address of the panel, and how long its answers took: `times` in seconds, sorted."""

    name: str
    variant: str
    bytes: int
    times: list[float]

    def ms(self, part: float) -> float:
        """Milliseconds within which that part of the answers came."""
        return round(share(self.times, part), 1)


async def _values(database: Database) -> dict[str, str]:
    """What stands for the names in paths and queries: the busiest webhook with a legacy form, the delivery with most
    attempts."""
    async with database.transaction() as connection:
        known = {"store": STORE, "names": [name for name, one in CATALOGUE.items() if one.legacy]}
        found = {name: str(await connection.scalar(text(query), known)) for name, query in _VALUES.items()}
        busiest = {"id": found["webhookSubscriptionId"], "store": STORE, "count": RECOVERED}
        await connection.execute(_LEGACY, busiest)
        act = await connection.scalar(text(_ACT), busiest)
        await connection.execute(text(_OF_ACT), {**busiest, "act": act})
        rows = (
            await connection.execute(
                text(
                    "SELECT created_at, message_id FROM delivery WHERE store_code = :store "
                    "ORDER BY created_at DESC, message_id DESC LIMIT :count"
                ),
                {"store": STORE, "count": ON_A_PAGE},
            )
        ).all()
        middle = (
            await connection.execute(
                text(
                    "SELECT created_at, message_id FROM delivery WHERE store_code = :store "
                    "AND created_at < now() - interval '15 days' ORDER BY created_at DESC LIMIT 1"
                ),
                {"store": STORE},
            )
        ).one()
    ids = [str(row.message_id) for row in rows]
    return found | {
        "storeCode": STORE,
        "bulkActionId": str(act),
        "expiryKind": Kind.POINTS,
        "eventName": "CustomerUpdated",
        "newest": write_cursor(Position(*rows[0])),
        "middle": write_cursor(Position(*middle)),
        "open": ",".join(ids),
        "chosen": "&".join(f"messageId={one}" for one in ids),
    }


def addresses(values: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(route, variant, address) of every page that is looked at."""
    for route in named_routes().values():
        if route.method == "GET":
            path = re.sub(r"{(\w+)}", lambda name: quote(values[name[1]], safe=""), route.path)
            for variant, query in VARIANTS.get(route.name, {"": ""}).items():
                asked = query.format_map(values)
                yield route.name, variant, f"{PATH}{path}?{asked}" if asked else PATH + path


async def _log_in(browser: httpx.AsyncClient, administrator: Mapping[str, str]) -> None:
    form = await browser.get(f"{PATH}/login")
    csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', form.text)
    if csrf is None:
        raise RuntimeError(f"no log-in form but {form.status_code}: {form.text[:300]}")
    answer = await browser.post(f"{PATH}/login", data={"csrf": csrf[1], "next": "", **administrator})
    if answer.status_code != httpx.codes.SEE_OTHER:
        raise RuntimeError(f"the log-in was answered with {answer.status_code}")


async def _measured(browser: httpx.AsyncClient, name: str, variant: str, address: str, requests: int) -> MeasuredPage:
    times = []
    for _ in range(WARM_REQUESTS + requests):
        began = time.perf_counter()
        answer = await browser.get(address)
        times.append(time.perf_counter() - began)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.SEE_OTHER):
            raise RuntimeError(f"{name} at {address}: {answer.status_code}")
    return MeasuredPage(name, variant, len(answer.content), sorted(times[WARM_REQUESTS:]))


async def run(deliveries: int, requests: int) -> tuple[float, list[MeasuredPage]]:
    """(seconds that loading took, the pages)."""
    async with bench_stack() as bench:
        async with Database(bench.facts["database"], pool_size=2) as database:
            began = time.perf_counter()
            names = [one for one in CATALOGUE if one != RARE_EVENT]
            await load_log(database, names, LogShape(deliveries, other_store=True))
            loaded = time.perf_counter() - began
            values = await _values(database)
        async with httpx.AsyncClient(base_url=bench.facts["api"], timeout=60) as browser:
            browser.headers["Origin"] = bench.facts["api"]
            await _log_in(browser, bench.facts["admin"])
            return loaded, [await _measured(browser, *one, requests) for one in addresses(values)]


def _figures(deliveries: int, requests: int, loaded: float, pages: list[MeasuredPage]) -> dict[str, Any]:
    return {
        "deliveries": deliveries,
        "loaded_seconds": round(loaded),
        "requests": requests,
        "pages": [
            {
                "page": page.name,
                "variant": page.variant,
                "kb": round(page.bytes / 1000, 1),
                "p50_ms": page.ms(0.5),
                "p95_ms": page.ms(0.95),
                "max_ms": page.ms(1),
            }
            for page in pages
        ],
    }


def _show(figures: Mapping[str, Any]) -> None:
    title = (
        f"Pages of the panel over {figures['deliveries']:,} deliveries (loaded in {figures['loaded_seconds']} s), ms"
    )
    table = Table(title=title)
    for column in ("page", "variant", "kB", "p50", "p95", "most"):
        table.add_column(column, justify="left" if column in ("page", "variant") else "right")
    for page in figures["pages"]:
        numbers = [f"{page[name]:.1f}" for name in ("kb", "p50_ms", "p95_ms", "max_ms")]
        table.add_row(page["page"], page["variant"], *numbers, style="red" if page["p95_ms"] > LIMIT_MS else None)
    Console(width=110).print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=40, help="How often each page is asked for")
    arguments = parser.parse_args()
    before = machine()
    figures = _figures(
        arguments.deliveries, arguments.requests, *asyncio.run(run(arguments.deliveries, arguments.requests))
    )
    RESULTS.mkdir(exist_ok=True)
    result = {"scenario": "panel-pages", "machine": before, "figures": figures}
    (RESULTS / "panel-pages.json").write_text(json.dumps(result, indent=1) + "\n")
    _show(figures)
    if slow := [page["page"] for page in figures["pages"] if page["p95_ms"] > LIMIT_MS]:
        sys.exit(f"above {LIMIT_MS} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
