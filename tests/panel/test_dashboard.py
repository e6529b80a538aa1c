"""The dashboard: right with nothing, with one attempt and with many, and the same cost for each."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.panel.dashboard import MINUTE, RATE_LEAST, failing_hosts, intervals_of
from api.panel.frame.rendering import milliseconds
from storage.deliveries.figures import Outcomes, SubscriptionTraffic, count_attempts, counted
from tests.api.installation import Installation, Shop
from tests.panel.conftest import Visit
from tests.panel.logged import add_delivery, fail
from tests.panel.queries import statements
from tests.panel.visitor import Visitor

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
async def viewer(visit: Visit) -> Visitor:
    return await visit("viewer")


async def shown(somebody: Visitor, shop: Shop, query: str = "") -> str:
    response = await somebody.get(f"/admin/{shop.store}/dashboard{query}")
    assert response.status_code == 200, response.text
    return response.text


def chart(text: str, name: str) -> Any:
    """What a chart is drawn from."""
    found = re.search(rf'id="{name}" data-chart="([^"]*)"', text)
    assert found is not None
    return json.loads(html.unescape(found[1]))


async def attempt(shop: Shop, webhook: str, status: str, duration_ms: int, count: int = 1) -> None:
    """Attempts as they are counted when a worker records them."""
    async with shop.installation.database.transaction() as connection:
        await count_attempts(connection, uuid4(), counted([(UUID(webhook), status, duration_ms)] * count))


async def test_of_a_store_without_deliveries_it_teaches_instead_of_drawing(viewer: Visitor, shop: Shop) -> None:
    text = await shown(viewer, shop)
    for part in ("No attempts in the last hour", "No webhook is failing", "No attempt failed", "Waiting or held"):
        assert part in text
    assert "data-chart" not in text
    assert "No attempts in the last 24 hours" in await shown(viewer, shop, "?span=day")
    assert "No attempts in the last hour" in await shown(viewer, shop, "?span=century")


@pytest.mark.parametrize(("query", "intervals", "minutes"), [("", 60, 1), ("?span=day", 96, 15)])
async def test_one_attempt_is_one_bar_and_one_line_of_the_table(
    viewer: Visitor, shop: Shop, query: str, intervals: int, minutes: int
) -> None:
    await attempt(shop, await shop.created(eventName="CustomerUpdated"), "exhausted", 120)
    text = await shown(viewer, shop, query)
    rates, durations = chart(text, "rates"), chart(text, "durations")
    assert len(rates["labels"]) == len(durations["labels"]) == intervals
    delivered, failed, given_up = [sum(one["data"]) for one in rates["series"]]
    assert (delivered, failed) == (0, 0)
    assert round(1 / minutes, 2) <= given_up <= MINUTE / RATE_LEAST
    for one in durations["series"]:
        [drawn] = [value for value in one["data"] if value is not None]
        assert 100 <= drawn <= 120
    table = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert table is not None
    assert table[1].count("<tr>") == 1
    assert "0 delivered, 0 failed, 1 gave up" in text


async def test_a_million_attempts_are_one_bar_too(viewer: Visitor, shop: Shop) -> None:
    await attempt(shop, await shop.created(eventName="CustomerUpdated"), "delivered", 120, 1_000_000)
    text = await shown(viewer, shop, "?span=day")
    [bar] = [value for value in chart(text, "rates")["series"][0]["data"] if value]
    assert 1_000_000 / 15 <= bar <= 1_000_000 * (MINUTE / RATE_LEAST)
    assert "1,000,000 delivered, 0 failed, 0 gave up" in text
    assert "100.0 %" in text


async def test_figures_are_those_of_this_store(viewer: Visitor, shop: Shop, installed: Installation) -> None:
    webhook = await shop.created(eventName="CustomerUpdated", name="CRM", url="https://receiver.example.com:8443/x")
    other = await installed.shop()
    await attempt(other, await other.created(eventName="CustomerUpdated"), "delivered", 10, 7)
    await attempt(shop, webhook, "delivered", 10, 3)
    await attempt(shop, webhook, "pending", 2000)
    await fail(shop, webhook)
    await add_delivery(shop, webhook, status="held", ended_at=None, last_failure="http_5xx")
    text = await shown(viewer, shop)
    for part in (
        "3 delivered, 1 failed, 0 gave up",
        "75.0 %",
        "receiver.example.com:8443",
        "25.0 %",
        "next attempt",
    ):
        assert part in text, part
    assert "1 have failed before" in text


async def test_nothing_of_a_webhook_becomes_markup(viewer: Visitor, shop: Shop) -> None:
    webhook = await shop.created(eventName="CustomerUpdated", name=SCRIPT)
    await attempt(shop, webhook, "pending", 10)
    await fail(shop, webhook)
    text = await shown(viewer, shop)
    assert SCRIPT not in text
    assert html.escape(SCRIPT) in text


async def test_what_does_not_answer_is_said_and_keeps_no_page_waiting(viewer: Visitor, shop: Shop) -> None:
    response = await viewer.get(f"/admin/{shop.store}/dashboard/components")
    assert response.status_code == 200
    words = (
        "PostgreSQL: healthy",
        "Temporal: ",
        "Workers: ",
        "Overdue deliveries: ",
        "unknown: Temporal does not answer",
    )
    for part in words:
        assert part in response.text, part


async def test_processes_are_named_to_those_of_every_store_alone(visit: Visit, shop: Shop) -> None:
    everywhere, here = await visit("viewer", ("*", shop.store)), await visit("viewer")
    path = f"/admin/{shop.store}/dashboard/components"
    await shop.installation.execute(
        "INSERT INTO worker (id, host, pid, seen_at) "
        "VALUES (gen_random_uuid(), 'worker-of-the-test', 4711, now() + interval '1 hour')"
    )
    try:
        assert "worker-of-the-test" in (await everywhere.get(path)).text
        assert "worker-of-the-test" not in (await here.get(path)).text
    finally:
        await shop.installation.execute("DELETE FROM worker WHERE host = 'worker-of-the-test'")


async def test_costs_the_same_however_many_webhooks_fail(installed: Installation, viewer: Visitor, shop: Shop) -> None:
    counts = []
    for _ in range(2):
        with statements(installed) as asked:
            await shown(viewer, shop)
        counts.append(len(asked))
        for number in range(5):
            webhook = await shop.created(eventName="CustomerUpdated", url=f"https://receiver.example.com/{number}")
            await fail(shop, webhook)
            await attempt(shop, webhook, "pending", 10)
    assert counts[0] == counts[1] <= 12, asked


@pytest.mark.parametrize(
    ("width", "passed", "drawn"),
    [
        (timedelta(minutes=1), timedelta(seconds=30), 10.0),
        (timedelta(minutes=1), timedelta(seconds=1), 30.0),
        (timedelta(minutes=1), -timedelta(seconds=1), 30.0),
        (timedelta(minutes=15), timedelta(minutes=5), 1.0),
    ],
)
def test_the_running_interval_counts_for_the_time_that_has_passed_of_it(
    width: timedelta, passed: timedelta, drawn: float
) -> None:
    now = datetime.now(UTC)
    outcomes = [Outcomes(now - 3 * width, 5, 0, 0, {}), Outcomes(now - passed, 5, 0, 0, {})]
    assert [one.delivered for one in intervals_of(outcomes, width, now)] == [round(5 / (width / MINUTE), 2), drawn]


def test_hosts_are_those_that_fail_most() -> None:
    day = [
        SubscriptionTraffic(uuid4(), f"https://{host}/{number}", delivered, failed)
        for number, (host, delivered, failed) in enumerate(
            [("a.example", 5, 0), ("b.example", 1, 1), ("b.example", 0, 2), ("c.example", 0, 2)]
        )
    ]
    assert [(one.name, one.failed, one.failed_percent) for one in failing_hosts(day)] == [
        ("b.example", 3, 75.0),
        ("c.example", 2, 100.0),
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 ms"),
        (999.4, "999 ms"),
        (1000, "1 s"),
        (1340, "1.34 s"),
        (60_000, "1 min"),
        (250_000, "4 min 10 s"),
        (7_500_000, "2 h 5 min"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_durations_are_said_in_two_units(value: float, said: str) -> None:
    assert milliseconds(value) == said
