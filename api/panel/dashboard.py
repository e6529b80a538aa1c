"""Dashboard: traffic, waiting deliveries, failing webhooks and the health of the components."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response

from api.errors import Unavailable
from api.operations.health import readiness
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.refusals import temporal_call
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
from storage.unavailable import is_unavailable
from temporal.expiry_schedules import ScheduleStatus

pages = PanelRoutes()

MINUTE = timedelta(minutes=1)
RATE_LEAST = timedelta(seconds=10)
"""Minimum divisor of the running interval's rate, which is otherwise its elapsed time. Without a minimum, one attempt
in the first second would be shown as 60 per minute."""
FAILING_SHOWN = 10
HOSTS_SHOWN = 5
WORKERS_SHOWN = 20


class Span(NamedTuple):
    """Time range of the charts, and the width of their intervals."""

    name: str
    span: timedelta
    width: timedelta


SPANS = (
    Span("hour", timedelta(hours=1), MINUTE),
    Span("day", timedelta(hours=24), timedelta(minutes=15)),
)


@dataclass(frozen=True, slots=True)
class ChartInterval:
    """Interval of the charts and of their table: attempts per minute, and durations in milliseconds."""

    start: datetime
    delivered: float
    failed: float
    given_up: float
    p50: float | None
    p95: float | None

    @property
    def empty(self) -> bool:
        """Return True if no attempt has an outcome in this interval."""
        return not (self.delivered or self.failed or self.given_up)


@dataclass(frozen=True, slots=True)
class Host:
    """Receiver host with the outcomes of its attempts in the last 24 hours."""

    name: str
    delivered: int
    failed: int

    @property
    def failed_percent(self) -> float:
        """Return the share of failed attempts, in percent."""
        return 100 * self.failed / (self.delivered + self.failed)


@dataclass(frozen=True, slots=True)
class CheckedComponent:
    """Component of the installation; `reason` is None when it is healthy."""

    name: str
    reason: str | None


@pages.get("/{storeCode}/dashboard", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the dashboard. The cost of its queries does not depend on the length of the log."""
    wished = page.request.query_params.get("span")
    span = next((one for one in SPANS if one.name == wished), SPANS[0])
    async with page.resources.database.transaction() as connection:
        counted = await traffic(connection, page.store_code, span=span.span, width=span.width)
        failing = await failing_subscriptions(connection, page.store_code, most=FAILING_SHOWN)
        day = await traffic_of_day(connection, page.store_code)
        now = await database_now(connection)
        waiting = await open_deliveries(connection, page.store_code)
    intervals = intervals_of(counted.outcomes, span.width, now)
    return page.render(
        "dashboard/shown.html",
        inline_styles=True,
        spans=SPANS,
        span=span,
        now=now,
        totals=_totals(counted),
        intervals=intervals,
        rates=_chart_of_rates(page, intervals),
        durations=_chart_of_durations(page, intervals),
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
    resources = page.resources
    checks, schedules = await asyncio.gather(
        readiness(resources.database, resources.temporal), asyncio.gather(*(_schedule(page, kind) for kind in Kind))
    )
    found = [CheckedComponent(t(f"dashboard.component_{check.name}"), check.reason) for check in checks]
    workers, backlog = [], None
    try:
        backlog = await resources.backlog.current()
        async with resources.database.transaction() as connection:
            workers = await seen_workers(connection, most=WORKERS_SHOWN)
    except Exception as error:
        if not is_unavailable(error):
            raise
    alive = [worker for worker in workers if worker.alive]
    return page.fragment(
        "dashboard/components.html",
        found=[*found, CheckedComponent(t("dashboard.component_workers"), None if alive else t("dashboard.no_worker"))],
        alive=alive,
        named=ALL_STORES in page.principal.stores,
        backlog=backlog,
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
    return [_interval(one, min(width, max(now - one.start, RATE_LEAST))) for one in outcomes]


def _interval(one: Outcomes, passed: timedelta) -> ChartInterval:
    def rate(count: int) -> float:
        return round(count / (passed / MINUTE), 2)

    return ChartInterval(
        one.start,
        rate(one.delivered),
        rate(one.failed),
        rate(one.given_up),
        quantile_ms(one.steps, 0.5),
        quantile_ms(one.steps, 0.95),
    )


def _totals(counted: Traffic) -> dict[str, Any]:
    """Return the figures of the whole span."""
    delivered = sum(one.delivered for one in counted.outcomes)
    failed = sum(one.failed for one in counted.outcomes)
    given_up = sum(one.given_up for one in counted.outcomes)
    attempts = delivered + failed + given_up
    return {
        "attempts": attempts,
        "delivered": delivered,
        "failed": failed,
        "given_up": given_up,
        "delivered_percent": 100 * delivered / attempts if attempts else None,
        "p50": quantile_ms(counted.steps, 0.5),
        "p95": quantile_ms(counted.steps, 0.95),
    }


def _chart_of_rates(page: Page, intervals: Sequence[ChartInterval]) -> str:
    series = {
        "delivered": [one.delivered for one in intervals],
        "failed": [one.failed for one in intervals],
        "given_up": [one.given_up for one in intervals],
    }
    return _chart(page, "bar", intervals, series)


def _chart_of_durations(page: Page, intervals: Sequence[ChartInterval]) -> str:
    return _chart(
        page, "line", intervals, {"p50": [one.p50 for one in intervals], "p95": [one.p95 for one in intervals]}
    )


def _chart(
    page: Page, kind: str, intervals: Sequence[ChartInterval], series: Mapping[str, Sequence[float | None]]
) -> str:
    """Return the chart as JSON for `charts.js`."""
    return orjson.dumps(
        {
            "kind": kind,
            "labels": [one.start.astimezone(page.zone).strftime("%H:%M") for one in intervals],
            "series": [{"key": key, "name": t(f"dashboard.of_{key}"), "data": data} for key, data in series.items()],
        }
    ).decode()


async def _schedule(page: Page, kind: Kind) -> ScheduleStatus | None:
    try:
        async with temporal_call():
            return await page.resources.schedules.status(page.store_code, kind)
    except Unavailable:
        return None
