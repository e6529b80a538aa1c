"""What expires, told over HTTP: repeated calls, old rows, wrong rows, many rows."""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.expiry.service import BATCH, WRAPPERS, id_name
from domain.access import Scope
from domain.expiry.rows import Kind
from storage.expiry.rows import RELATIONS
from tests.api.installation import Installation, Shop
from tests.expiry import INSTANTS, told

kinds = pytest.mark.parametrize("kind", list(Kind))
NDJSON = {"Content-Type": "application/x-ndjson"}


def path(shop: Shop, kind: Kind, last: object) -> str:
    return f"/api/{shop.store}/expiry/{kind}/{last}"


async def put(shop: Shop, kind: Kind, row: dict[str, Any], **changes: Any) -> httpx.Response:
    body = {name: value for name, value in {**row, **changes}.items() if name != id_name(kind)}
    return await shop.client.put(path(shop, kind, row[id_name(kind)]), json={WRAPPERS[kind]: body})


async def batch(shop: Shop, kind: Kind, rows: Iterable[Any], *, lines: bool = False) -> httpx.Response:
    if lines:
        content = "".join(json.dumps(row) + "\n" for row in rows)
        return await shop.client.post(path(shop, kind, "batch"), content=content, headers=NDJSON)
    return await shop.client.post(path(shop, kind, "batch"), json=list(rows))


async def stored(shop: Shop, kind: Kind) -> list[Any]:
    relation = RELATIONS[kind]
    return await shop.installation.execute(
        f"SELECT * FROM {relation.table} WHERE store_code = :store ORDER BY {relation.identity}", store=shop.store
    )


@kinds
async def test_the_same_put_twice_leaves_one_row(shop: Shop, kind: Kind) -> None:
    row = told(kind)
    for _ in range(2):
        response = await put(shop, kind, row)
        assert (response.status_code, response.json()) == (200, {"written": True})
    [one] = await stored(shop, kind)
    assert str(one[RELATIONS[kind].identity]) == row[id_name(kind)]
    assert one["customer_email"] == row["customerEmail"]


@kinds
async def test_a_row_older_than_the_one_there_is_answered_and_changes_nothing(shop: Shop, kind: Kind) -> None:
    row = told(kind)
    await put(shop, kind, row, updatedAt="2026-01-02T00:00:00+01:00", customerFirstName="new")
    response = await put(shop, kind, row, updatedAt="2026-01-01T22:59:59.999Z", customerFirstName="old")
    assert (response.status_code, response.json()) == (200, {"written": False})
    assert [one["customer_first_name"] for one in await stored(shop, kind)] == ["new"]


@kinds
async def test_deleting_is_done_whether_it_is_there_or_not(shop: Shop, kind: Kind) -> None:
    row = told(kind)
    await put(shop, kind, row)
    for _ in range(2):
        response = await shop.client.delete(path(shop, kind, row[id_name(kind)]))
        assert (response.status_code, response.content) == (204, b"")
    assert await stored(shop, kind) == []


@kinds
@pytest.mark.parametrize("lines", [False, True], ids=["array", "ndjson"])
async def test_a_batch_is_written_but_for_rows_older_than_those_there(shop: Shop, kind: Kind, lines: bool) -> None:
    rows = [told(kind) for _ in range(60)]
    await put(shop, kind, rows[0], updatedAt="2027-01-01T00:00:00Z")
    for _ in range(2):
        response = await batch(shop, kind, [*rows, rows[1]], lines=lines)
        assert (response.status_code, response.json()) == (200, {"rows": 61, "written": 59})
    assert len(await stored(shop, kind)) == 60


@kinds
async def test_every_wrong_row_of_a_batch_is_named_and_none_is_written(shop: Shop, kind: Kind) -> None:
    rows = [told(kind) for _ in range(30)]
    rows[3] = "no row"  # type: ignore[call-overload]
    del rows[7]["updatedAt"]
    rows[27] = told(kind, **{INSTANTS[kind]: "2026-02-30T00:00:00Z", "unknown": 1})
    for lines in (False, True):
        response = await batch(shop, kind, rows, lines=lines)
        assert response.status_code == 400
        problems = {problem["path"]: problem["code"] for problem in response.json()["errors"]}
        assert problems == {
            "3": "model_type",
            "7.updatedAt": "missing",
            f"27.{INSTANTS[kind]}": "not_a_date_time",
            "27.unknown": "extra_forbidden",
        }
    assert await stored(shop, kind) == []


async def test_a_line_that_is_not_json_is_named_by_its_index(shop: Shop) -> None:
    good = json.dumps(told(Kind.POINTS))
    content = f"{good}\n\n{{\n{good}\n{{}}\n"
    response = await shop.client.post(path(shop, Kind.POINTS, "batch"), content=content, headers=NDJSON)
    assert response.status_code == 400
    places = [problem["path"] for problem in response.json()["errors"]]
    assert places[0] == "1"
    assert {place.partition(".")[0] for place in places} == {"1", "3"}


@pytest.mark.parametrize("content", [b"[]", b"", b"{}", b"null", b"[" * 100], ids=str)
async def test_a_body_that_is_no_batch_is_a_400(shop: Shop, content: bytes) -> None:
    response = await shop.client.post(path(shop, Kind.POINTS, "batch"), content=content)
    assert response.status_code == 400


async def test_five_thousand_rows_are_taken_and_one_more_is_a_413(shop: Shop) -> None:
    rows = [told(Kind.COUPONS) for _ in range(BATCH.most)]
    response = await batch(shop, Kind.COUPONS, rows)
    assert (response.status_code, response.json()) == (200, {"rows": 5_000, "written": 5_000})
    for lines in (False, True):
        response = await batch(shop, Kind.COUPONS, [*rows, rows[0]], lines=lines)
        assert response.status_code == 413, response.text[:200]


async def test_eight_megabytes_are_the_most(shop: Shop) -> None:
    content = b" " * (8 * 1024 * 1024 + 1)
    response = await shop.client.post(path(shop, Kind.POINTS, "batch"), content=content)
    assert response.status_code == 413


WRONG: list[tuple[Kind, dict[str, Any], str, str]] = [
    (Kind.POINTS, {"points": -1}, "points", "negative"),
    (Kind.POINTS, {"points": "1"}, "points", "not_a_number"),
    (Kind.POINTS, {"points": True}, "points", "not_a_number"),
    (Kind.POINTS, {"points": None}, "points", "not_a_number"),
    (Kind.POINTS, {"remainingPoints": -0.5}, "remainingPoints", "negative"),
    (Kind.POINTS, {"type": "adding"}, "type", "literal_error"),
    (Kind.POINTS, {"status": "spent"}, "status", "literal_error"),
    (Kind.POINTS, {"accountId": "7"}, "accountId", "not_a_uuid"),
    (Kind.POINTS, {"customerId": None}, "customerId", "not_a_uuid"),
    (Kind.POINTS, {"expiresAt": "2026-03-01"}, "expiresAt", "not_a_date_time"),
    (Kind.POINTS, {"expiresAt": "2026-03-01T00:00:00"}, "expiresAt", "not_a_date_time"),
    (Kind.POINTS, {"expiresAt": "0001-01-01T00:00:00+01:00"}, "expiresAt", "not_a_date_time"),
    (Kind.POINTS, {"expiresAt": 1772366400}, "expiresAt", "not_a_date_time"),
    (Kind.POINTS, {"customerEmail": "x" * 1025}, "customerEmail", "string_too_long"),
    (Kind.POINTS, {"customerEmail": 7}, "customerEmail", "string_type"),
    (Kind.POINTS, {"transfer": 1}, "transfer", "extra_forbidden"),
    (Kind.LEVELS, {"levelId": "gold"}, "levelId", "not_a_uuid"),
    (Kind.LEVELS, {"recalculateAt": ""}, "recalculateAt", "not_a_date_time"),
    (Kind.COUPONS, {"used": 1}, "used", "bool_type"),
    (Kind.COUPONS, {"used": None}, "used", "bool_type"),
    (Kind.COUPONS, {"status": None}, "status", "literal_error"),
    (Kind.COUPONS, {"code": ["A"]}, "code", "string_type"),
]


@pytest.mark.parametrize(("kind", "changes", "where", "code"), WRONG, ids=lambda value: str(value)[:40])
async def test_a_wrong_field_is_named(shop: Shop, kind: Kind, changes: dict[str, Any], where: str, code: str) -> None:
    response = await put(shop, kind, told(kind), **changes)
    assert response.status_code == 400, response.text
    assert [(problem["path"], problem["code"]) for problem in response.json()["errors"]] == [(where, code)]
    assert await stored(shop, kind) == []


@kinds
async def test_what_must_be_told_cannot_be_left_out(shop: Shop, kind: Kind) -> None:
    response = await shop.client.put(path(shop, kind, uuid4()), json={WRAPPERS[kind]: {}})
    assert response.status_code == 400
    missing = {problem["path"] for problem in response.json()["errors"] if problem["code"] == "missing"}
    fields = RELATIONS[kind].model.model_fields.values()
    assert missing == {field.alias for field in fields if field.is_required()} - {id_name(kind)}


async def test_what_expires_never_is_told_with_null(shop: Shop) -> None:
    for kind in Kind:
        assert (await put(shop, kind, told(kind), **{INSTANTS[kind]: None})).status_code == 200


async def test_the_id_in_the_body_is_that_of_the_path(shop: Shop) -> None:
    row = told(Kind.POINTS)
    where = path(shop, Kind.POINTS, row["transferId"].upper())
    assert (await shop.client.put(where, json={"pointTransfer": row})).status_code == 200
    other = {**row, "transferId": str(uuid4())}
    response = await shop.client.put(where, json={"pointTransfer": other})
    assert (response.status_code, response.json()["differences"]) == (409, ["transferId"])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_path_whose_id_is_none_is_a_404(shop: Shop, method: str) -> None:
    response = await shop.client.request(method, path(shop, Kind.POINTS, "7"), json={"pointTransfer": {}})
    assert response.status_code == 404


async def test_the_code_of_a_coupon_is_not_repeated_in_an_error(shop: Shop) -> None:
    response = await put(shop, Kind.COUPONS, told(Kind.COUPONS), code={"hidden": "SECRET-1"}, status="SECRET-2")
    assert response.status_code == 400
    assert "SECRET" not in response.text


async def test_points_keep_every_digit(shop: Shop) -> None:
    row = told(Kind.POINTS)
    body = json.dumps({"pointTransfer": {**row, "points": 0}}).replace(
        '"points": 0', '"points": 12345678901234567890.10'
    )
    assert (await shop.client.put(path(shop, Kind.POINTS, row["transferId"]), content=body)).status_code == 200
    [one] = await stored(shop, Kind.POINTS)
    assert str(one["points"]) == "12345678901234567890.10"
    assert one["remaining_points"] == Decimal(80)


async def test_the_right_of_a_platform_s_feed_opens_nothing_else(installed: Installation, shop: Shop) -> None:
    feed = await installed.with_key(Scope.EXPIRY_WRITE, stores=[shop.store])
    row = told(Kind.LEVELS)
    response = await feed.put(path(shop, Kind.LEVELS, row["customerId"]), json={"memberLevel": row})
    assert response.status_code == 200
    assert (await feed.get(f"/api/{shop.store}/settings")).status_code == 403
    assert (await feed.get(shop.path())).status_code == 403
