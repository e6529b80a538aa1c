"""The four ways in which it is told what expires, each from the row to the bodies that receivers get.

API, relay, worker, PostgreSQL, Temporal and receiver are real; each row is told in one way only.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from domain.expiry.rows import EVENT_NAMES, Kind
from domain.wire.jsontext import dump
from storage.expiry.rows import RELATIONS
from storage.expiry.source import source_columns
from tests.api.installation import Shop, installation
from tests.commands.running import run
from tests.databases import cloned_database, empty_database
from tests.deadlines import eventually
from tests.domain.test_expiry_events import sample
from tests.expiry import IDENTITIES, INSTANTS, row, told
from tests.pipeline import ENCRYPTION_KEY, pipeline
from tests.receiver import Receiver

DAY = "2031-03-01"
NOON = f"{DAY}T12:00:00Z"
LEGACY_TYPES = {
    Kind.POINTS: "account.expiring_points_notification",
    Kind.LEVELS: "account.expiring_level_notification",
    Kind.COUPONS: "campaign.coupon_expiration",
}
WRAPPERS = {Kind.POINTS: "pointTransfer", Kind.LEVELS: "memberLevel", Kind.COUPONS: "issuedCoupon"}


@dataclass
class Everything:
    """The running system as a platform, an operator and two receivers see it."""

    shop: Shop
    receiver: Receiver
    database_url: str
    platform: asyncpg.Connection

    def path(self, *steps: str) -> str:
        return "/".join([f"/api/{self.shop.store}", *steps])

    async def subscribe(self) -> None:
        """To each of the three events in both formats."""
        for kind in Kind:
            for legacy in (False, True):
                url = self.receiver.url(f"/{kind}/{'legacy' if legacy else 'modern'}")
                await self.shop.created(eventName=EVENT_NAMES[kind], url=url, legacy=legacy)

    async def trigger(self, kind: Kind) -> None:
        """Scan the day, as an operator does."""
        response = await self.shop.client.post(self.path("schedule", kind, "trigger"), json={"day": DAY})
        assert response.status_code == 202, response.text

    async def bodies(self, kind: Kind) -> tuple[Any, Any]:
        """The modern and the legacy body of the one notice of the kind."""

        async def both_came() -> bool:
            return all(self.received(f"/{kind}/{format_}") for format_ in ("modern", "legacy"))

        await eventually(both_came, 30, f"a notice of {kind} in both formats")
        [modern], [legacy] = self.received(f"/{kind}/modern"), self.received(f"/{kind}/legacy")
        return modern, legacy

    def received(self, path: str) -> list[Any]:
        return [json.loads(request.body) for request in self.receiver.requests if request.target == path]

    async def emit(self, name: str, data: dict[str, Any]) -> None:
        """The platform emits an event; returns when its rows are written."""
        event = dump({"event": {"eventName": name, "data": data}})
        response = await self.shop.client.post(self.path("event"), content=event)
        assert response.status_code == 202, response.text

        async def matched() -> bool:
            return not await self.shop.installation.execute(
                "SELECT 1 FROM event WHERE store_code = :store AND matched_at IS NULL", store=self.shop.store
            )

        await eventually(matched, 20, "the event is matched")


@pytest.fixture(scope="module")
async def system(database_template: str, temporal: WorkflowEnvironment) -> AsyncIterator[Any]:
    """All parts, once for the module; tests have a store each."""
    async with cloned_database(database_template) as url, empty_database() as platform_url:
        platform = await asyncpg.connect(platform_url)
        for relation in RELATIONS.values():
            columns = ", ".join(f"{column} {type_}" for column, type_ in source_columns(relation).items())
            await platform.execute(f"CREATE TABLE t_{relation.view} ({columns})")
            await platform.execute(f"CREATE VIEW {relation.view} AS SELECT * FROM t_{relation.view}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
            async with (
                pipeline(url, temporal.client, expiry_database_url=platform_url) as running,
                installation(
                    url,
                    encryption_keys=ENCRYPTION_KEY,
                    task_queue=running.settings.task_queue,
                    allow_http=True,
                    allowed_ports=(),
                    allowed_networks="127.0.0.0/8",
                    expiry_database_url=platform_url,
                ) as installed,
            ):
                yield installed, url, platform
        await platform.close()


@pytest.fixture
async def everything(system: Any) -> AsyncIterator[Everything]:
    installed, url, platform = system
    async with Receiver() as receiver:
        shop = await installed.shop()
        one = Everything(shop, receiver, url, platform)
        await one.subscribe()
        yield one


def assert_bodies(kind: Kind, modern: Any, legacy: Any, wire: dict[str, Any], store: str) -> None:
    """The bodies say what the row said."""
    assert list(modern) == ["messageId", "requestId", "eventName", "storeCode", "createdAt", "data"]
    assert (modern["eventName"], modern["storeCode"]) == (EVENT_NAMES[kind], store)
    assert list(legacy) == ["type", "data"]
    assert legacy["type"] == LEGACY_TYPES[kind]
    [entry] = legacy["data"]
    assert entry["customerId"] == wire["customerId"]
    assert entry["customerEmail"] == wire["customerEmail"]
    data = modern["data"]
    match kind:
        case Kind.POINTS:
            assert (data["points"], data["pointsWillExpire"]) == (wire["points"], NOON)
            assert (entry["points"], entry["pointsWillExpire"]) == (wire["points"], NOON.replace("Z", "+00:00"))
            assert "customerId" not in data
        case Kind.LEVELS:
            assert data["futureLevelId"] == entry["futureLevelId"] == wire["futureLevelId"]
        case Kind.COUPONS:
            assert data["issuedCoupon"]["code"] == entry["coupon"] == wire["code"]
            assert data["issuedCoupon"]["activeTo"] == NOON
            assert entry["couponExpiresAt"] == int(datetime(2031, 3, 1, 12, tzinfo=UTC).timestamp())
            assert entry["couponStatus"] == "active"


@pytest.mark.parametrize("kind", list(Kind))
async def test_told_over_http(everything: Everything, kind: Kind) -> None:
    wire = told(kind, **{INSTANTS[kind]: NOON})
    where = everything.path("expiry", kind, wire[IDENTITIES[kind]])
    response = await everything.shop.client.put(where, json={WRAPPERS[kind]: wire})
    assert response.status_code == 200, response.text
    await everything.trigger(kind)
    assert_bodies(kind, *await everything.bodies(kind), wire, everything.shop.store)


@pytest.mark.parametrize("kind", list(Kind))
async def test_imported_from_a_file(everything: Everything, kind: Kind, tmp_path: Path) -> None:
    wire = told(kind, **{INSTANTS[kind]: NOON})
    (tmp_path / "rows.csv").write_text("\n".join([",".join(wire), ",".join(map(str, wire.values()))]))
    ended = await run(
        *("expiry", "import", kind, "rows.csv", "--store", everything.shop.store),
        directory=tmp_path,
        environment={"DATABASE_URL": everything.database_url, "ENCRYPTION_KEYS": ENCRYPTION_KEY},
    )
    assert ended.code == 0, ended.errors
    await everything.trigger(kind)
    assert_bodies(kind, *await everything.bodies(kind), wire, everything.shop.store)


@pytest.mark.parametrize("kind", list(Kind))
async def test_read_from_the_platform_s_database(everything: Everything, kind: Kind) -> None:
    wire = told(kind, **{INSTANTS[kind]: NOON})
    values = row(kind, **wire).model_dump() | {"store_code": everything.shop.store}
    columns = list(source_columns(RELATIONS[kind]))
    await everything.platform.copy_records_to_table(
        f"t_{RELATIONS[kind].view}", records=[[values[column] for column in columns]], columns=columns
    )
    await everything.trigger(kind)
    assert_bodies(kind, *await everything.bodies(kind), wire, everything.shop.store)


@pytest.mark.parametrize("kind", [Kind.POINTS, Kind.COUPONS])
async def test_taken_from_events(everything: Everything, kind: Kind) -> None:
    settings = {"settings": {"expiryKindsFromEvents": [kind]}}
    response = await everything.shop.client.patch(everything.path("settings"), json=settings)
    assert response.status_code == 200, response.text
    if kind is Kind.POINTS:
        await everything.emit("UnitsTransferWasAdded", sample("UnitsTransferWasAdded", expiresAt=NOON, pending=True))
        await everything.emit("AvailablePointsAmountChanged", sample("AvailablePointsAmountChanged"))
        wire: dict[str, Any] = {"points": 80.5}
    else:
        bought = sample("CustomerBoughtReward", coupon__activeTo=NOON, coupon__usedAt=...)
        await everything.emit("CustomerBoughtReward", bought)
        wire = {"code": "COFFEE-9XQ2"}
    await everything.trigger(kind)
    customer = {"customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70", "customerEmail": "member@example.com"}
    assert_bodies(kind, *await everything.bodies(kind), {**wire, **customer}, everything.shop.store)


async def test_a_level_that_events_say_has_changed_gets_no_notice(everything: Everything) -> None:
    """Of levels events tell only what is over; another member's level shows that the scan has been."""
    settings = {"settings": {"expiryKindsFromEvents": ["levels"]}}
    await everything.shop.client.patch(everything.path("settings"), json=settings)
    changed, kept = (told(Kind.LEVELS, recalculateAt=NOON) for _ in range(2))
    for wire in (changed, kept):
        where = everything.path("expiry", "levels", wire["customerId"])
        assert (await everything.shop.client.put(where, json={"memberLevel": wire})).status_code == 200
    await everything.emit(
        "CustomerLevelChanged", sample("CustomerLevelChanged", customer__customerId=changed["customerId"])
    )
    await everything.trigger(Kind.LEVELS)
    assert_bodies(Kind.LEVELS, *await everything.bodies(Kind.LEVELS), kept, everything.shop.store)
