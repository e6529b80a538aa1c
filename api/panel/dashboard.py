"""Dashboard: traffic, waiting deliveries, failing webhooks and the health of the components."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response

from api.operations.health import readiness
from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from api.schedules.service import ScheduleActions
from domain.access import ALL_STORES, Scope
from domain.durations import quantile_ms
from domain.expiry.rows import Kind
from storage.deliveries.explain import database_now
from storage.deliveries.figures import (
    COUNTED_OPEN,
    Outcomes,
    SubscriptionTraffic,
    Traffic,
    failing_subscriptions,
    open_deliveries,
    seen_workers,
    traffic,
    traffic_of_day,
)
from storage.deliveries.retries import OVERDUE_COUNTED, count_overdue
from storage.unavailable import is_unavailable

pages = PanelRoutes()

MINUTE = timedelta(minutes=1)
RATE_LEAST = timedelta(seconds=10)
"""Minimum divisor of the running interval's rate, which is otherwise its elapsed time. Without a minimum, one attempt
in the first second would be shown as 60 per minute."""
FAILING_SHOWN = 10
HOSTS_SHOWN = 5
WORKERS_SHOWN = 20
OUTCOMES = ("delivered", "failed", "given_up")
SPANS = {"hour": (timedelta(hours=1), MINUTE), "day": (timedelta(hours=24), timedelta(minutes=15))}
"""Time ranges of the charts, and the width of their intervals."""


class ChartInterval(NamedTuple):
    """Interval of the charts and of their table: attempts per minute, and durations in milliseconds."""

    start: datetime
    delivered: float
    failed: float
    given_up: float
    p50: float | None
    p95: float | None


class Host(NamedTuple):
    """Receiver host with the outcomes of its attempts in the last 24 hours."""

    name: str
    delivered: int
    failed: int

    @property
    def failed_percent(self) -> float:
        """Return the share of failed attempts."""
        return 100 * self.failed / (self.delivered + self.failed)


@pages.get("/{storeCode}/dashboard", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the dashboard. The cost of its queries does not depend on the length of the log."""
    span = wished if (wished := page.query("span")) in SPANS else "hour"
    length, width = SPANS[span]
    async with page.resources.database.transaction() as connection:
        counted = await traffic(connection, page.store_code, span=length, width=width)
        failing = await failing_subscriptions(connection, page.store_code, most=FAILING_SHOWN)
        day = await traffic_of_day(connection, page.store_code)
        now = await database_now(connection)
        waiting = await open_deliveries(connection, page.store_code)
    intervals = intervals_of(counted.outcomes, width, now)
    return page.render(
        "dashboard/shown.html",
        spans=SPANS,
        span=span,
        now=now,
        totals=_totals(counted),
        intervals=intervals,
        rates=_chart(page, "bar", intervals, OUTCOMES),
        durations=_chart(page, "line", intervals, ("p50", "p95")),
        waiting=waiting,
        waiting_most=COUNTED_OPEN,
        failing=failing,
        hosts=failing_hosts(day),
    )


@pages.get("/{storeCode}/dashboard/components", Scope.DELIVERY_READ)
async def components(page: Page) -> Response:
    """Return the components and the next scans, for the dashboard's script.

    They are loaded after the page, so that a component that hangs does not delay it.
    """
    resources, status = page.resources, page.actions(ScheduleActions).status
    checks, schedules = await asyncio.gather(
        readiness(resources.database, resources.temporal), asyncio.gather(*(status(kind) for kind in Kind))
    )
    found = [(t(f"dashboard.component_{name}"), reason) for name, reason in checks.items()]
    workers, backlog, overdue = [], None, None
    try:
        backlog = await resources.backlog.current()
        workers = await resources.database.run(seen_workers, most=WORKERS_SHOWN)
        overdue = await resources.database.run(count_overdue)
    except Exception as error:
        if not is_unavailable(error):
            raise
    alive = [worker for worker in workers if worker.alive]
    return page.render(
        "dashboard/components.html",
        found=[*found, (t("dashboard.component_workers"), None if alive else t("dashboard.no_worker"))],
        alive=alive,
        named=ALL_STORES in page.principal.stores,
        backlog=backlog,
        overdue=overdue,
        overdue_most=OVERDUE_COUNTED,
        schedules=list(zip(Kind, schedules, strict=True)),
    )


def failing_hosts(day: Sequence[SubscriptionTraffic]) -> list[Host]:
    """Return the hosts with the most failed attempts, in descending order."""
    counts: dict[str, list[int]] = {}
    for one in day:
        host = counts.setdefault(urlsplit(one.url).netloc, [0, 0])
        host[0] += one.delivered
        host[1] += one.failed
    hosts = [Host(name, *both) for name, both in counts.items() if both[1]]
    return sorted(hosts, key=lambda host: (-host.failed, host.name))[:HOSTS_SHOWN]


def intervals_of(outcomes: Sequence[Outcomes], width: timedelta, now: datetime) -> list[ChartInterval]:
    """Return the intervals to draw. Rates of the last, running interval are over its elapsed time."""
    intervals = []
    for one in outcomes:
        minutes = min(width, max(now - one.start, RATE_LEAST)) / MINUTE
        rates = [round(getattr(one, name) / minutes, 2) for name in OUTCOMES]
        durations = [quantile_ms(one.steps, share) for share in (0.5, 0.95)]
        intervals.append(ChartInterval._make([one.start, *rates, *durations]))
    return intervals


def _totals(counted: Traffic) -> dict[str, Any]:
    """Return the figures of the whole span."""
    totals = {name: sum(getattr(one, name) for one in counted.outcomes) for name in OUTCOMES}
    attempts = sum(totals.values())
    return {
        **totals,
        "attempts": attempts,
        "delivered_percent": 100 * totals["delivered"] / attempts if attempts else None,
        "p50": quantile_ms(counted.steps, 0.5),
        "p95": quantile_ms(counted.steps, 0.95),
    }


def _chart(page: Page, kind: str, intervals: Sequence[ChartInterval], keys: Sequence[str]) -> str:
    """Return the chart as JSON for `charts.js`, with a series for each field `keys` of the intervals."""
    series = [
        {"key": key, "name": t(f"dashboard.of_{key}"), "data": [getattr(one, key) for one in intervals]} for key in keys
    ]
    labels = [one.start.astimezone(page.zone).strftime("%H:%M") for one in intervals]
    return orjson.dumps({"kind": kind, "labels": labels, "series": series}).decode()
