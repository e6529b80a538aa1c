"""How long pages of a long log take: `python -m bench.postgres python -m bench.log_pages --deliveries 1000000`.

Loads that many deliveries into a fresh database, then asks a real API process for pages of 50 by every filter, common
and rare, from the newest and from the middle, one page at a time; and looks for a part of an id that nothing has to
the end of the log. The times of answers are printed and kept in bench/results/.
"""

import argparse
import asyncio
import time
from typing import Any
from urllib.parse import quote

import aiohttp
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.api_process import STORE, RunningApi, add_server_argument, running_api, share
from bench.log_data import RARE_EVENT, RARE_SUBSCRIPTION, LogShape, load_log
from bench.pipeline import keep, machine
from domain.events.catalogue import CATALOGUE

WARM_PAGES = 5  # of each filter, not counted: what is measured is a service that runs

FILTERS = {
    "none": "",
    "an event's": "eventId={event}",
    "event name, common": "eventName=CustomerUpdated",
    "event name, rare": f"eventName={RARE_EVENT}",
    "event name, like": "eventName[like]=customer",
    "subscription, common": "webhookSubscriptionId={subscription}",
    "subscription, rare": f"webhookSubscriptionId={RARE_SUBSCRIPTION}",
    "status, common": "status=delivered",
    "status, one in a thousand": "status=cancelled",
    "status, one in a hundred thousand": "status=pending",
    "URL part, common": "url[like]=example.com",
    "URL part, one subscription": "url[like]=RECEIVER-7.",
    "URL part, rare": "url[like]=rare",
    "URL part, none has it": "url[like]=nowhere",
    "since": "createdAt[gte]={middle}",
    "until": "createdAt[lt]={middle}",
    "name, status, URL, until": "eventName=CustomerUpdated&status=cancelled&url[like]=loyalty&createdAt[lt]={middle}",
    "event id, part of it": "eventId[like]=00000000-0000",
    "event id, part of it, and a common status": "eventId[like]=00000000-0000&status=delivered",
    "event id, part of it, and a rare status": "eventId[like]=00000000-0000&status=pending",
    "event ids above one": "eventId[gt]=fffffff0-0000-4000-8000-000000000000",
    "instant, part of it": "createdAt[like]=1999-",
}
TO_THE_END = "event id, part of it"


async def _values(api: RunningApi) -> dict[str, str]:
    async with api.database.transaction() as connection:
        row = (
            await connection.execute(
                text("SELECT event_id, subscription_id FROM delivery WHERE subscription_id <> :rare LIMIT 1"),
                {"rare": RARE_SUBSCRIPTION},
            )
        ).one()
        middle = await connection.scalar(text("SELECT now() - interval '15 days'"))
    return {"event": str(row[0]), "subscription": str(row[1]), "middle": quote(middle.isoformat())}


def _url(api: RunningApi, query: str, values: dict[str, str]) -> str:
    return f"{api.root}/api/{STORE}/webhook/delivery?_itemsOnPage=50&{query.format(**values)}"


async def _page(session: aiohttp.ClientSession, url: str) -> tuple[float, dict[str, Any]]:
    """Seconds until the whole answer was there, and the page."""
    began = time.perf_counter()
    async with session.get(url) as answer:
        body: dict[str, Any] = await answer.json()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body}")
    return time.perf_counter() - began, body


async def _to_the_end(session: aiohttp.ClientSession, url: str) -> list[float]:
    """Seconds of each page until the cursor is null."""
    seconds, page = await _page(session, url)
    times = [seconds]
    while page["nextCursor"] is not None:
        seconds, page = await _page(session, f"{url}&_cursor={page['nextCursor']}")
        times.append(seconds)
    return times


async def run(server: str, deliveries: int, pages: int) -> dict[str, Any]:
    """Load, ask, print; milliseconds of each filter's pages."""
    async with (
        running_api(server) as api,
        aiohttp.ClientSession(headers={"X-AUTH-TOKEN": api.key}) as session,
    ):
        began = time.perf_counter()
        await load_log(api.database, [name for name in CATALOGUE if name != RARE_EVENT], LogShape(deliveries))
        loaded = time.perf_counter() - began
        table = Table(title=f"Pages of 50 from {deliveries:,} deliveries (loaded in {loaded:.0f} s), ms at the API")
        for column in ("filter", "items", "p50", "p95", "p99", "most"):
            table.add_column(column, justify="left" if column == "filter" else "right")
        values = await _values(api)
        filters: dict[str, dict[str, float]] = {}
        for name, query in FILTERS.items():
            url = _url(api, query, values)
            answers = [await _page(session, url) for _ in range(WARM_PAGES + pages)][WARM_PAGES:]
            times = sorted(seconds for seconds, _ in answers)
            filters[name] = {
                key: round(share(times, part), 1)
                for key, part in {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1}.items()
            }
            table.add_row(name, str(len(answers[0][1]["items"])), *map(str, filters[name].values()))
        Console(width=110).print(table)
        walk = await _to_the_end(session, _url(api, FILTERS[TO_THE_END], values))
    to_the_end = {"pages": len(walk), "seconds": round(sum(walk), 2), "slowest_ms": round(max(walk) * 1000, 1)}
    print(f"{TO_THE_END}, to the end of the log: {to_the_end}")
    return {"deliveries": deliveries, "pages_of_each": pages, "filters": filters, "to_the_end": to_the_end}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_argument(parser)
    parser.add_argument("--deliveries", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=200, help="Pages asked for by each filter")
    arguments = parser.parse_args()
    before = machine()
    keep("log-pages", asyncio.run(run(arguments.server, arguments.deliveries, arguments.pages)), before)


if __name__ == "__main__":
    main()
