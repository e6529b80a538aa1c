"""The log's pages: what the filters mean, whole and in order whatever is added meanwhile, and cheap by plan."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from bench.log_data import RARE_EVENT, RARE_SUBSCRIPTION, LogShape, load_log
from domain.delivery.failure_kinds import FailureKind
from domain.events.catalogue import CATALOGUE
from storage.database import Database
from storage.deliveries import log as delivery_log
from storage.deliveries.log import LOG_FIELDS, Position, delivery_page
from storage.listing import Condition, Operator
from tests.storage.plans import explained

STORE = "default"
START = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("pending", "held", "delivered", "exhausted", "cancelled")
NAMES = ("CustomerUpdated", "CustomerRegistered", "LevelWillExpire")
URLS = ("https://a.example.com/x", "https://b.example.com/Y?tenant=1", "https://a.example.com/x/ÄÖ%25_")


@dataclass(frozen=True)
class Logged:
    """A delivery as the oracle knows it."""

    message_id: UUID
    store_code: str
    event_id: UUID
    event_name: str
    subscription_id: UUID
    url: str
    status: str
    created_at: datetime
    last_failure: str = FailureKind.http_5xx
    last_status_code: int = 503

    @property
    def code(self) -> str:
        """The status code as filters compare it."""
        return str(self.last_status_code)


async def _write(database: Database, rows: Sequence[Logged], subscriptions: dict[UUID, tuple[str, str]]) -> None:
    async with database.transaction() as connection:
        for store in (STORE, "other"):
            await connection.execute(
                text("INSERT INTO store (code, name) VALUES (:code, 'A store') ON CONFLICT DO NOTHING"), {"code": store}
            )
        for id_, (store, name) in subscriptions.items():
            await connection.execute(
                text(
                    "INSERT INTO subscription (id, store_code, event_name, url) VALUES (:id, :store, :name, 'https://now')"
                ),
                {"id": id_, "store": store, "name": name},
            )
        await connection.execute(
            text("""
                INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url,
                    status, created_at, last_failure, last_status_code)
                VALUES (:message_id, :store_code, :event_id, :event_name, :subscription_id, 'main', :url, :status,
                    :created_at, :last_failure, :last_status_code)
            """),
            [{name: getattr(row, name) for name in Logged.__dataclass_fields__} for row in rows],
        )


def _made(chance: random.Random, count: int) -> tuple[list[Logged], dict[UUID, tuple[str, str]]]:
    """Deliveries of two stores; instants repeat, URLs of a subscription change."""
    subscriptions = {
        UUID(int=chance.getrandbits(128)): (STORE if number < 9 else "other", NAMES[number % len(NAMES)])
        for number in range(12)
    }
    events = [UUID(int=chance.getrandbits(128)) for _ in range(count // 3)]
    rows = []
    for _ in range(count):
        subscription, (store, name) = chance.choice(list(subscriptions.items()))
        rows.append(
            Logged(
                message_id=UUID(int=chance.getrandbits(128)),
                store_code=store,
                event_id=chance.choice(events),
                event_name=name,
                subscription_id=subscription,
                url=chance.choice(URLS),
                status=chance.choice(STATUSES),
                created_at=START
                + timedelta(seconds=chance.randrange(count // 2), microseconds=chance.choice([0, 500])),
                last_failure=chance.choice(list(FailureKind)),
                last_status_code=chance.choice([200, 404, 503]),
            )
        )
    return rows, subscriptions


_ATTRIBUTES = {
    "messageId": "message_id",
    "eventId": "event_id",
    "eventName": "event_name",
    "webhookSubscriptionId": "subscription_id",
    "status": "status",
    "url": "url",
    "lastFailure": "last_failure",
    "lastStatusCode": "code",
    "createdAt": "created_at",
}
_COMPARED: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: lambda has, asked: has == asked,
    Operator.GT: lambda has, asked: has > asked,
    Operator.GTE: lambda has, asked: has >= asked,
    Operator.LT: lambda has, asked: has < asked,
    Operator.LTE: lambda has, asked: has <= asked,
    Operator.IN: lambda has, asked: has in asked,
    Operator.HAS_VALUE: lambda has, asked: True,
    Operator.NOT_HAS_VALUE: lambda has, asked: False,
    Operator.LIKE: lambda has, asked: asked.lower() in _read(has).lower(),
}


def _read(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _meets(row: Logged, condition: Condition) -> bool:
    return _COMPARED[condition.operator](getattr(row, _ATTRIBUTES[condition.field]), condition.value)


def _condition(chance: random.Random, rows: Sequence[Logged], field: str, operator: Operator) -> Condition:
    values = [getattr(chance.choice(rows), _ATTRIBUTES[field]) for _ in range(2)]
    if operator in (Operator.HAS_VALUE, Operator.NOT_HAS_VALUE):
        return Condition(field, operator, True)
    if operator is Operator.IN:
        return Condition(field, operator, tuple(values))
    if operator is Operator.LIKE:
        whole = _read(values[0])
        begin = chance.randrange(len(whole))
        part = whole[begin : begin + chance.randrange(1, 8)]
        return Condition(field, operator, chance.choice([part, part.upper(), "nowhere"]))
    return Condition(field, operator, values[0])


async def _walk(database: Database, conditions: Sequence[Condition], items: int) -> list[UUID]:
    """All pages, one after the other."""
    found: list[UUID] = []
    after = None
    while True:
        async with database.transaction() as connection:
            page = await delivery_page(connection, STORE, conditions, after, items)
        found += [row.message_id for row in page.rows]
        if len(page.rows) == items:
            after = Position(page.rows[-1].created_at, page.rows[-1].message_id)
        elif page.looked_to is not None:
            after = page.looked_to
        else:
            return found


@pytest.mark.parametrize(
    ("looked_at", "in_branches"), [(7, 20), (7, 0), (delivery_log.LOOKED_AT, delivery_log.LOOKED_AT_IN_BRANCHES)]
)
async def test_every_operator_on_every_field_finds_what_it_says_in_order(
    database: Database, looked_at: int, in_branches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "LOOKED_AT", looked_at)
    monkeypatch.setattr(delivery_log, "LOOKED_AT_IN_BRANCHES", in_branches)
    chance = random.Random(11)
    rows, subscriptions = _made(chance, 60)
    await _write(database, rows, subscriptions)
    ordered = sorted(
        (row for row in rows if row.store_code == STORE),
        key=lambda row: (row.created_at, row.message_id.bytes),
        reverse=True,
    )
    single = [[_condition(chance, ordered, field, operator)] for field in LOG_FIELDS for operator in Operator]
    several = [
        [_condition(chance, ordered, chance.choice(list(LOG_FIELDS)), chance.choice(list(Operator))) for _ in range(3)]
        for _ in range(20)
    ]
    for conditions in [[], *single, *several]:
        expected = [row.message_id for row in ordered if all(_meets(row, condition) for condition in conditions)]
        assert await _walk(database, conditions, chance.choice([20, 50])) == expected, conditions


async def test_pages_do_not_move_when_deliveries_are_added(database: Database) -> None:
    chance = random.Random(12)
    rows, subscriptions = _made(chance, 60)
    await _write(database, rows, subscriptions)
    expected = await _walk(database, [], 50)
    found: list[UUID] = []
    after = None
    while True:
        async with database.transaction() as connection:
            page = (await delivery_page(connection, STORE, [], after, 5)).rows
        found += [row.message_id for row in page]
        if not page:
            break
        after = Position(page[-1].created_at, page[-1].message_id)
        newer = Logged(
            uuid4(), STORE, uuid4(), NAMES[0], next(iter(subscriptions)), URLS[0], "pending", datetime.now(UTC)
        )
        await _write(database, [newer], {})
    assert found == expected


async def test_what_is_looked_for_is_found_once_while_deliveries_are_added(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_log, "LOOKED_AT", 4)
    chance = random.Random(14)
    rows, subscriptions = _made(chance, 60)
    await _write(database, rows, subscriptions)
    wanted = [Condition("eventId", Operator.LIKE, "a"), Condition("createdAt", Operator.LT, START + timedelta(days=1))]
    expected = await _walk(database, wanted, 50)
    assert len(expected) > 20
    found: list[UUID] = []
    after = None
    while True:
        async with database.transaction() as connection:
            page = await delivery_page(connection, STORE, wanted, after, 50)
        found += [row.message_id for row in page.rows]
        if page.looked_to is None:
            break
        after = page.looked_to
        early = min(row.created_at for row in rows) if len(page.rows) % 2 else START + timedelta(hours=23)
        added = Logged(uuid4(), STORE, uuid4(), NAMES[0], next(iter(subscriptions)), URLS[0], "pending", early)
        await _write(database, [added], {})
    assert [id_ for id_ in found if id_ in set(expected)] == expected
    assert len(set(found)) == len(found)


async def test_a_deleted_subscription_keeps_its_log(database: Database) -> None:
    rows, subscriptions = _made(random.Random(13), 40)
    await _write(database, rows, subscriptions)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE subscription SET deleted_at = now()"))
    own = {row.message_id for row in rows if row.store_code == STORE and row.status == "delivered"}
    assert set(await _walk(database, [Condition("status", Operator.EQ, "delivered")], 50)) == own


CASES = {
    "nothing": [],
    "since": [Condition("createdAt", Operator.GTE, datetime.now(UTC) - timedelta(days=3))],
    "until": [Condition("createdAt", Operator.LTE, datetime.now(UTC) - timedelta(days=29))],
    "delivery": [Condition("messageId", Operator.EQ, uuid4())],
    "event": [Condition("eventId", Operator.EQ, uuid4())],
    "events": [Condition("eventId", Operator.IN, (uuid4(), uuid4()))],
    "common name": [Condition("eventName", Operator.EQ, "CustomerUpdated")],
    "rare name": [Condition("eventName", Operator.EQ, RARE_EVENT)],
    "unknown name": [Condition("eventName", Operator.EQ, "Nothing")],
    "rare subscription": [Condition("webhookSubscriptionId", Operator.EQ, RARE_SUBSCRIPTION)],
    "common status": [Condition("status", Operator.EQ, "delivered")],
    "rare status": [Condition("status", Operator.EQ, "pending")],
    "status nothing has": [Condition("status", Operator.EQ, "held")],
    "common URL": [Condition("url", Operator.LIKE, "example.com")],
    "rare URL": [Condition("url", Operator.LIKE, "RARE.example")],
    "URL nothing has": [Condition("url", Operator.LIKE, "nowhere")],
    "part of an event's id": [Condition("eventId", Operator.LIKE, "no-such-id")],
    "part of a delivery's id": [Condition("messageId", Operator.LIKE, "no-such-id")],
    "ids below the first": [Condition("eventId", Operator.LT, UUID(int=0))],
    "part of an event's id, of a common status": [
        Condition("eventId", Operator.LIKE, "no-such-id"),
        Condition("status", Operator.EQ, "delivered"),
    ],
    "part of an event's id, of one instant": [
        Condition("eventId", Operator.LIKE, "no-such-id"),
        Condition("createdAt", Operator.IN, (START,)),
    ],
    "part of an instant": [Condition("createdAt", Operator.LIKE, "1999-")],
    "part of an event's id, of a rare status": [
        Condition("eventId", Operator.LIKE, "no-such-id"),
        Condition("status", Operator.EQ, "pending"),
    ],
    "everything at once": [
        Condition("eventName", Operator.EQ, "CustomerUpdated"),
        Condition("status", Operator.IN, ("pending", "exhausted")),
        Condition("url", Operator.LIKE, "loyalty"),
        Condition("createdAt", Operator.LTE, datetime.now(UTC) - timedelta(days=10)),
    ],
}


async def test_no_filter_reads_the_log_from_end_to_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_log, "LOOKED_AT", 450)
    monkeypatch.setattr(delivery_log, "LOOKED_AT_IN_BRANCHES", 200)
    names = [name for name in CATALOGUE if name != RARE_EVENT]
    await load_log(database, names, LogShape(deliveries=30_000))
    async with database.transaction() as connection:
        middle = Position(datetime.now(UTC) - timedelta(days=15), uuid4())
        for case, conditions in CASES.items():
            for after in (None, middle):
                async with explained(connection, "(ANALYZE, TIMING OFF)") as plans:
                    await delivery_page(connection, STORE, conditions, after, 51)
                for plan in plans:
                    assert "Seq Scan on delivery" not in plan, (case, plan)
                    assert "Sort Method: external" not in plan, (case, plan)
                    # Branches not asked for are passed over; there are a few hundred, of 30,000 deliveries.
                    assert max((int(n) for n in re.findall(r"Removed by Filter: (\d+)", plan)), default=0) < 500, plan
                    # Those that are counted stop at one more than 200, those that are looked at at 450.
                    assert _most_rows(plan) <= (51 if plan is plans[-1] else 450), (case, plan)


def _most_rows(plan: str) -> float:
    """The most rows that one look into the log brought."""
    looks = [line for line in plan.splitlines() if " on delivery" in line]
    return max((float(rows) for line in looks for rows in re.findall(r"actual rows=([\d.]+)", line)), default=0)
