"""The list grammar: every operator on every field with and without a value, against an oracle in plain Python."""

import asyncio
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import insert

from api.listing import ListQuery
from domain.access import Scope
from storage.listing import Operator
from storage.subscriptions.queries import SUBSCRIPTION_FIELDS
from storage.subscriptions.tables import Subscription
from tests.api.installation import Installation, Shop

START = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = ("CustomerRegistered", "CustomerUpdated", "customerupdated", "RewardCreated")
NAMES = (None, "Alpha", "alpha", "Ärger, 50 % _off_", "ärger", "日本", "Z")
URLS = ("https://a.example.com/Hook", "https://b.example.com/hook?x=1", "https://xn--bcher-kva.example.com/")
ACTIVE_FROM = (None, START, START + timedelta(microseconds=1), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC))
STATUSES = ("active", "paused", "disabled")
ROWS = 84


def made_row(index: int) -> dict[str, Any]:
    """A subscription such that every value of one field meets many values of the others."""
    return {
        "id": uuid4(),
        "event_name": EVENTS[index % 4],
        "url": URLS[index % 3],
        "name": NAMES[index % 7],
        "legacy": index % 2 == 0,
        "active_from": ACTIVE_FROM[(index // 3) % 4],
        "status": STATUSES[(index // 2) % 3],
        "created_at": START + timedelta(seconds=index // 5, microseconds=(index % 2) * 250_000),
    }


@pytest.fixture(scope="module")
async def listed(installed: Installation) -> Shop:
    """A store with many subscriptions."""
    shop = await installed.shop()
    async with installed.database.transaction() as connection:
        for index in range(ROWS):
            await connection.execute(insert(Subscription).values(store_code=shop.store, **made_row(index)))
    return shop


@pytest.fixture(scope="module")
async def everything(listed: Shop) -> list[dict[str, Any]]:
    """All its subscriptions, in the list's own order."""
    return await all_pages(listed, "")


async def all_pages(shop: Shop, query: str) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    items: list[dict[str, Any]] = []
    for page in range(1, 10):
        answer = await shop.list(f"{query}{'&' if query else ''}_itemsOnPage=50&_page={page}")
        assert answer["total"]["all"] == ROWS
        items += answer["items"]
        if len(items) == answer["total"]["filtered"]:
            return items
    raise AssertionError("the pages do not add up to the total")


READ: Mapping[str, Callable[[Any], Any]] = {
    "createdAt": datetime.fromisoformat,
    "activeFrom": datetime.fromisoformat,
    "legacy": lambda value: value if isinstance(value, bool) else value == "true",
    "active": lambda value: value if isinstance(value, bool) else value == "true",
}
COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
}


def matches(row: Mapping[str, Any], field: str, op: Operator, given: str) -> bool:
    """What the grammar means, in plain Python: on what the API itself answers."""
    shown = row[field]
    if op in (Operator.HAS_VALUE, Operator.NOT_HAS_VALUE):
        return (shown is not None) == (op is Operator.HAS_VALUE)
    if shown is None:
        return False
    if op is Operator.LIKE:
        text = str(shown).lower() if isinstance(shown, bool) else shown
        return given.lower() in text.lower()
    read = READ.get(field, str)
    value = read(shown)
    if op is Operator.EQ:
        return bool(value == read(given))
    if op is Operator.IN:
        return value in [read(part) for part in given.split(",")]
    return COMPARE[op](value, read(given))


INSTANTS = ("2026-01-01T00:00:03Z", "2026-01-01T01:00:03.25+01:00", "2025-12-31T12:00:00-12:00", "1970-01-01T00:00:00Z")
VALUES: Mapping[str, tuple[str, ...]] = {
    "eventName": ("CustomerUpdated", "customerUPDATED", "D", ""),
    "url": ("https://a.example.com/Hook", "HOOK", "https://b", ""),
    "name": ("Alpha", "alpha", "ÄRGER", "日本", "", "%", "_", "\\", "Z"),
    "legacy": ("true", "false"),
    "active": ("true", "false"),
    "createdAt": INSTANTS,
    "activeFrom": (*INSTANTS, "2026-01-01T00:00:00.000001Z"),
}
LIKE_VALUES: Mapping[str, tuple[str, ...]] = {
    "legacy": ("TR", "e", "x", ""),
    "active": ("als", "E", ""),
    "createdAt": ("2026-01-01t00:00:0", ".25", "Z", "+00", ""),
    "activeFrom": ("1969", ".000001Z", "00:00:00Z", ""),
}
IN_VALUES: Mapping[str, tuple[str, ...]] = {
    "eventName": ("CustomerUpdated,RewardCreated", "nothing", ""),
    "url": (",".join(URLS[:2]), URLS[2]),
    "name": ("Alpha,Z", "alpha", ",日本"),
    "legacy": ("true", "true,false"),
    "active": ("false", "false,true"),
    "createdAt": (",".join(INSTANTS), INSTANTS[0]),
    "activeFrom": (f"{INSTANTS[3]},2026-01-01T02:00:00+02:00", INSTANTS[0]),
}


def values_for(field: str, op: Operator) -> tuple[str, ...]:
    if op in (Operator.HAS_VALUE, Operator.NOT_HAS_VALUE):
        return ("true",)
    if op is Operator.LIKE:
        return LIKE_VALUES.get(field, VALUES[field])
    return IN_VALUES[field] if op is Operator.IN else VALUES[field]


@pytest.mark.parametrize("op", Operator)
@pytest.mark.parametrize("field", SUBSCRIPTION_FIELDS)
async def test_every_operator_on_every_field_agrees_with_plain_python(
    listed: Shop, everything: list[dict[str, Any]], field: str, op: Operator
) -> None:
    for given in values_for(field, op):
        expected = [row for row in everything if matches(row, field, op, given)]
        assert await all_pages(listed, f"{field}[{op}]={quote(given, safe='')}") == expected, given


@pytest.mark.parametrize("field", SUBSCRIPTION_FIELDS)
async def test_a_field_alone_means_equal(listed: Shop, field: str) -> None:
    for given in VALUES[field]:
        value = quote(given, safe="")
        assert await listed.list(f"{field}={value}") == await listed.list(f"{field}[eq]={value}")


def test_both_null_states_are_in_the_table(everything: list[dict[str, Any]]) -> None:
    for field in ("name", "activeFrom"):
        assert {row[field] is None for row in everything} == {True, False}


async def test_several_filters_are_joined_by_and(listed: Shop, everything: list[dict[str, Any]]) -> None:
    query = "legacy=true&name[hasValue]=true&createdAt[gte]=2026-01-01T00:00:02Z&createdAt[lt]=2026-01-01T00:00:09Z"
    expected = [
        row
        for row in everything
        if row["legacy"]
        and row["name"] is not None
        and "2026-01-01T00:00:02" <= row["createdAt"] < "2026-01-01T00:00:09"
    ]
    assert 0 < len(expected) < ROWS
    assert await all_pages(listed, query) == expected


def _order_key(row: Mapping[str, Any], field: str) -> Any:
    return READ.get(field, str)(row[field])


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("field", SUBSCRIPTION_FIELDS)
async def test_every_order_puts_what_has_no_value_last_and_ties_by_age(
    listed: Shop, everything: list[dict[str, Any]], field: str, direction: str
) -> None:
    valued = [row for row in everything if row[field] is not None]
    # `reverse` keeps equal ones in the order they had.
    ordered = sorted(valued, key=lambda row: _order_key(row, field), reverse=direction == "desc")
    expected = ordered + [row for row in everything if row[field] is None]
    assert await all_pages(listed, f"_orderBy[{field}]={direction}") == expected


async def test_several_orders_apply_one_after_the_other(listed: Shop, everything: list[dict[str, Any]]) -> None:
    expected = sorted(everything, key=lambda row: _order_key(row, "url"), reverse=True)
    expected = sorted(expected, key=lambda row: row["legacy"])
    found = await all_pages(listed, "_orderBy[legacy]=asc&_orderBy[url]=desc")
    assert [(row["legacy"], row["url"]) for row in found] == [(row["legacy"], row["url"]) for row in expected]


async def test_the_lists_own_order_is_by_age_then_id(everything: list[dict[str, Any]]) -> None:
    keys = [(datetime.fromisoformat(row["createdAt"]), row["webhookSubscriptionId"]) for row in everything]
    assert keys == sorted(keys)


async def test_pages_have_ten_items_unless_asked_otherwise(listed: Shop, everything: list[dict[str, Any]]) -> None:
    first = await listed.list()
    assert first["items"] == everything[:10]
    assert first["total"] == {"all": ROWS, "filtered": ROWS}
    assert (await listed.list("_page=3&_itemsOnPage=7"))["items"] == everything[14:21]
    assert (await listed.list("_page=1000000000&_itemsOnPage=50"))["items"] == []


async def test_a_plus_that_was_not_encoded_is_understood(listed: Shop) -> None:
    bare = await listed.client.get(f"{listed.path()}?createdAt[gt]=2026-01-01T01:00:03+01:00")
    assert bare.json() == await listed.list("createdAt[gt]=2026-01-01T00:00:03Z")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("_page=0", "_page"),
        ("_page=-1", "_page"),
        ("_page=1.0", "_page"),
        ("_page=", "_page"),
        ("_page=%D9%A3", "_page"),
        ("_page=99999999999999999999", "_page"),
        ("_page=1&_page=2", "_page"),
        ("_page[gt]=1", "_page.gt"),
        ("_itemsOnPage=0", "_itemsOnPage"),
        ("_itemsOnPage=51", "_itemsOnPage"),
        ("_itemsOnPage=ten", "_itemsOnPage"),
        ("_cursor=x", "_cursor"),
        ("_orderBy=createdAt", "_orderBy"),
        ("_orderBy[]=asc", "_orderBy."),
        ("_orderBy[nonsense]=asc", "_orderBy.nonsense"),
        ("_orderBy[createdAt]=up", "_orderBy.createdAt"),
        ("_orderBy[url]=asc&_orderBy[url]=desc", "_orderBy.url"),
        ("nonsense=1", "nonsense"),
        ("headerName=A", "headerName"),
        ("nonsense[eq]=1", "nonsense.eq"),
        ("eventName[ne]=1", "eventName.ne"),
        ("eventName[EQ]=1", "eventName.EQ"),
        ("eventName[]=1", "eventName."),
        ("eventName[eq][eq]=1", "eventName[eq][eq]"),
        ("eventname=1", "eventname"),
        ("eventName=%00", "eventName"),
        ("name[like]=%00", "name.like"),
        ("legacy=1", "legacy"),
        ("legacy=TRUE", "legacy"),
        ("legacy[in]=true,maybe", "legacy.in"),
        ("active[gt]=", "active.gt"),
        ("createdAt=2026-01-01", "createdAt"),
        ("createdAt=2026-01-01T00:00:00", "createdAt"),
        ("createdAt[lt]=2026-13-01T00:00:00Z", "createdAt.lt"),
        ("createdAt[lt]=2026-01-01T00:00:60Z", "createdAt.lt"),
        ("createdAt[gt]=0001-01-01T00:00:00%2B14:00", "createdAt.gt"),
        ("createdAt[in]=2026-01-01T00:00:00Z,", "createdAt.in"),
        ("name[hasValue]=false", "name.hasValue"),
        ("name[notHasValue]=", "name.notHasValue"),
        ("&".join(["url[like]=-"] * 100 + ["name=A", "name=B"]), "name"),
        ("&".join(["url[like]=-"] * 101), "url.like"),
    ],
)
async def test_what_the_grammar_has_not_is_a_400_that_says_where(shop: Shop, query: str, path: str) -> None:
    response = await shop.client.get(f"{shop.path()}?{query}")
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]


async def test_every_problem_is_told_at_once(shop: Shop) -> None:
    response = await shop.client.get(f"{shop.path()}?_page=0&nonsense=1&legacy=2")
    assert [error["path"] for error in response.json()["errors"]] == ["_page", "nonsense", "legacy"]


async def test_the_earliest_and_the_latest_instant_can_be_asked_for(shop: Shop) -> None:
    for instant in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
        assert (await shop.list(f"createdAt[gt]={instant}&activeFrom[lt]={instant}"))["items"] == []


async def test_totals_and_items_agree_while_others_write(installed: Installation) -> None:
    shop = await installed.shop()
    writer = await installed.with_key(Scope.ADMIN)

    async def write() -> None:
        for _ in range(15):
            await shop.create(writer)

    async def read() -> None:
        while not writing.done():
            answer = await shop.list("_itemsOnPage=50")
            assert answer["total"] == {"all": len(answer["items"]), "filtered": len(answer["items"])}

    writing = asyncio.create_task(write())
    await read()
    await writing


def test_the_documented_parameters_are_all_that_are_taken() -> None:
    documented = {parameter["name"] for parameter in ListQuery(SUBSCRIPTION_FIELDS).parameters()}
    fields = set(SUBSCRIPTION_FIELDS)
    assert documented == (
        fields
        | {f"{field}[{op}]" for field in fields for op in Operator}
        | {f"_orderBy[{field}]" for field in fields}
        | {"_page", "_itemsOnPage"}
    )
    for name in documented:
        assert ListQuery(SUBSCRIPTION_FIELDS).read([(name, _example(name))])


def _example(name: str) -> str:
    if name.startswith("_orderBy"):
        return "desc"
    if name.startswith("_"):
        return "5"
    if "asValue" in name:
        return "true"
    return INSTANTS[0] if name.startswith(("createdAt", "activeFrom")) else "true"


async def test_a_list_query_survives_being_encoded(shop: Shop) -> None:
    query = urlencode({"name[like]": "ä&=+%", "_orderBy[name]": "asc"})
    response: httpx.Response = await shop.client.get(f"{shop.path()}?{query}")
    assert response.status_code == 200
