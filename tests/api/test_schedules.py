"""Schedules over HTTP: what a scan would find, scans by hand, pauses, and how far it all has come."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from domain.access import Scope
from domain.expiry.calendar_days import day_start
from domain.expiry.rows import Kind, notice_id
from domain.timestamps import utc_text
from storage.sealing import Sealer
from tests.api.installation import Installation, installation
from tests.deadlines import eventually
from tests.expiry_ground import Scanning, scanning
from tests.ground import STORE

DAY = "2026-03-01"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOWHERE = "127.0.0.1:1"


@dataclass
class Office:
    """The API, an administrator in it, and a worker that scans."""

    installed: Installation
    client: httpx.AsyncClient
    scanning: Scanning

    async def get(self, path: str, **query: str) -> Any:
        response = await self.client.get(f"/api/{STORE}/{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: Any = None, status: int = 202) -> Any:
        response = await self.client.post(f"/api/{STORE}/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def result_of(self, workflow_id: str) -> Any:
        return await self.scanning.client.get_workflow_handle(workflow_id).result()


@pytest.fixture
async def office(
    module_database_url: str, temporal_namespace: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Office]:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_namespace.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_namespace.client.namespace)
    monkeypatch.setattr("api.refusals.TEMPORAL_SECONDS", 60.0)  # the first schedule of a new namespace takes seconds
    key = Fernet.generate_key().decode()
    async with scanning(module_database_url, temporal_namespace) as running:
        running.sealer = Sealer([key])
        changes = {"encryption_keys": key, "task_queue": running.task_queue, "temporal_ui_url": "http://ui.test"}
        async with installation(module_database_url, **changes) as installed:
            client = await installed.caller({"X-AUTH-TOKEN": installed.admin_key})
            yield Office(installed, client, running)


async def synced(office: Office) -> Office:
    await office.post("schedule/sync", status=200)
    return office


async def test_a_preview_counts_shows_bodies_and_sends_nothing(office: Office) -> None:
    await synced(office)
    transfers = await office.scanning.put(Kind.POINTS, [NOON + timedelta(minutes=number) for number in range(12)])
    found = await office.get("expiry/points/preview", day=DAY)
    assert found["count"] == 12
    assert [item["objectId"] for item in found["items"]] == [str(one) for one in transfers[:10]]
    first = found["items"][0]
    event_id = notice_id(STORE, Kind.POINTS, transfers[0], NOON)
    assert (first["eventId"], first["expiresAt"], first["noticeGiven"]) == (
        str(event_id),
        "2026-03-01T12:00:00Z",
        False,
    )
    assert first["modern"]["eventName"] == "PointsWillExpire"
    assert first["modern"]["data"]["pointsWillExpire"] == utc_text(NOON)
    assert "customerEmail" not in first["modern"]["data"]
    assert first["legacy"]["type"] == "account.expiring_points_notification"
    assert first["legacy"]["data"][0]["customerEmail"] == "member@example.com"
    assert await office.scanning.count() == 0
    assert await office.scanning.scans() == []


async def test_a_preview_masks_codes(office: Office) -> None:
    await synced(office)
    await office.scanning.put(Kind.COUPONS, [NOON])
    found = await office.get("expiry/coupons/preview", day=DAY)
    assert found["count"] == 1
    assert "SPRING-4F7K" not in json.dumps(found)
    assert found["items"][0]["modern"]["data"]["issuedCoupon"]["code"] == "•••"
    assert found["items"][0]["legacy"]["data"][0]["coupon"] == "•••"


async def test_a_preview_without_a_day_is_of_the_day_due_today_in_the_stores_zone(office: Office) -> None:
    await synced(office)
    await office.scanning.settings(expire_levels_notification_days=3)
    due = day_start(datetime.now(UTC).date() + timedelta(days=3), UTC) + timedelta(hours=1)
    await office.scanning.put(Kind.LEVELS, [due, due + timedelta(days=1)])
    assert (await office.get("expiry/levels/preview"))["count"] == 1


async def test_a_triggered_day_is_scanned_once_and_its_progress_is_told(office: Office) -> None:
    await synced(office)
    await office.scanning.put(Kind.POINTS, [NOON] * 3)
    begun = await office.post("schedule/points/trigger", {"day": DAY})
    assert begun["workflowId"] == f"expiry/{STORE}/points/{DAY}"
    assert begun["day"] == DAY
    namespace = office.scanning.client.namespace
    assert begun["temporalUrl"].startswith(f"http://ui.test/namespaces/{namespace}/workflows/expiry%2F")
    assert (await office.result_of(begun["workflowId"]))["emitted"] == 3
    again = await office.post("schedule/points/trigger", {"day": DAY})
    assert (await office.result_of(again["workflowId"]))["emitted"] == 0
    details = await office.get("schedule/points")
    assert [
        (scan["origin"], scan["day"], scan["scanned"], scan["emitted"], scan["known"]) for scan in details["scans"]
    ] == [
        ("manual", DAY, 3, 0, 3),
        ("manual", DAY, 3, 3, 0),
    ]
    assert details["lastScan"] == details["scans"][0]
    assert (details["scannedFrom"], details["scannedUntil"]) == (None, None)  # by hand: the schedule is where it was
    assert [item["noticeGiven"] for item in (await office.get("expiry/points/preview", day=DAY))["items"]] == [True] * 3


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_a_trigger_without_a_day_takes_the_day_due_today(office: Office, body: bytes) -> None:
    await synced(office)
    response = await office.client.post(f"/api/{STORE}/schedule/coupons/trigger", content=body)
    assert response.status_code == 202, response.text
    assert response.json()["day"] == (datetime.now(UTC).date() + timedelta(days=10)).isoformat()
    await office.result_of(response.json()["workflowId"])


async def test_a_backfill_scans_its_days_in_order(office: Office) -> None:
    await synced(office)
    await office.scanning.put(Kind.LEVELS, [NOON + timedelta(days=number) for number in range(5)])
    begun = await office.post("schedule/levels/backfill", {"firstDay": "2026-03-02", "lastDay": "2026-03-04"})
    assert (await office.result_of(begun["workflowId"]))["emitted"] == 3
    scans = (await office.get("schedule/levels"))["scans"]
    assert [scan["day"] for scan in scans] == ["2026-03-04", "2026-03-03", "2026-03-02"]


async def test_a_store_and_a_new_zone_reach_temporal_by_themselves(office: Office) -> None:
    await synced(office)
    response = await office.client.post("/api/admin/store", json={"store": {"storeCode": "new"}})
    assert response.status_code == 200

    async def made() -> bool:
        return (await office.scanning.schedules.status("new", Kind.COUPONS)).exists

    await eventually(made, 30, "the new store has its schedules")
    changed = {"settings": {"timezone": "Asia/Kathmandu"}}
    assert (await office.client.patch(f"/api/{STORE}/settings", json=changed)).status_code == 200

    async def moved() -> bool:
        status = await office.scanning.schedules.status(STORE, Kind.LEVELS)
        return status.next_run_at is not None and status.next_run_at.minute == 15

    await eventually(moved, 30, "the schedule runs at six in Kathmandu")


async def test_a_list_says_how_far_each_schedule_is_and_when_it_runs(office: Office) -> None:
    await synced(office)
    await office.scanning.run(Kind.POINTS)
    items = {item["kind"]: item for item in (await office.get("schedule"))["items"]}
    assert list(items) == ["points", "levels", "coupons"]
    points = items["points"]
    assert (points["state"], points["localHour"], points["notificationDays"]) == ("active", 6, 10)
    assert points["scheduleId"] == f"expiry/{STORE}/points"
    assert datetime.fromisoformat(points["nextRunAt"]).astimezone(UTC).hour == 6
    last = datetime.now(UTC).date() + timedelta(days=11)
    assert datetime.fromisoformat(points["scannedUntil"]) == day_start(last, UTC)
    assert points["lastScan"]["origin"] == "late"
    assert items["levels"]["scannedUntil"] is None


async def test_a_paused_schedule_says_who_paused_it_until_it_is_resumed(office: Office) -> None:
    await synced(office)
    paused = await office.post("schedule/points/pause", status=200)
    assert (paused["state"], paused["nextRunAt"]) == ("paused", None)
    assert "paused by" in paused["note"]
    resumed = await office.post("schedule/points/resume", status=200)
    assert resumed["state"] == "active"
    audit = await office.scanning.execute(
        "SELECT action, object_id FROM audit WHERE object_type = 'schedule' ORDER BY id"
    )
    assert [tuple(entry) for entry in audit] == [
        ("pause", f"expiry/{STORE}/points"),
        ("resume", f"expiry/{STORE}/points"),
    ]


async def test_what_is_not_there_yet_is_missing_and_cannot_be_paused(office: Office) -> None:
    assert (await office.get("schedule/points"))["state"] == "missing"
    refused = await office.post("schedule/points/pause", status=409)
    assert "schedules sync" in refused["message"]
    made = await office.post("schedule/sync", status=200)
    assert sorted(made["created"]) == sorted(f"expiry/{STORE}/{kind}" for kind in Kind)
    assert (await office.post("schedule/sync", status=200)) == {"created": [], "updated": [], "failed": {}}


BAD_DAYS = ["2026-02-30", "tomorrow", "2026-3-1", "1899-12-31", "3000-01-01", "", "2026-03-01T00:00:00Z"]


@pytest.mark.parametrize("day", BAD_DAYS)
async def test_what_is_no_day_is_refused(installed: Installation, day: str) -> None:
    shop = await installed.shop()
    root = f"/api/{shop.store}"
    for response in (
        await shop.client.get(f"{root}/expiry/points/preview", params={"day": day}),
        await shop.client.post(f"{root}/schedule/points/trigger", json={"day": day}),
    ):
        assert response.status_code == 400
        [error] = response.json()["errors"]
        assert (error["path"], error["code"]) == ("day", "not_a_day")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"firstDay": "2026-03-02"}, "lastDay"),
        ({"firstDay": "2026-03-02", "lastDay": "2026-03-01"}, "lastDay"),
        ({"firstDay": "2026-03-02", "lastDay": "2027-03-03"}, "lastDay"),
        ({"firstDay": 1, "lastDay": "2026-03-01"}, "firstDay"),
        ({"firstDay": "2026-03-02", "lastDay": "2026-03-02", "kind": "points"}, "kind"),
    ],
)
async def test_what_are_no_days_is_refused(installed: Installation, body: Any, path: str) -> None:
    shop = await installed.shop()
    response = await shop.client.post(f"/api/{shop.store}/schedule/points/backfill", json=body)
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]


async def test_an_unknown_kind_is_a_404(installed: Installation) -> None:
    shop = await installed.shop()
    for path in ("schedule/miles", "expiry/miles/preview"):
        assert (await shop.client.get(f"/api/{shop.store}/{path}")).status_code == 404
    assert (await shop.client.post(f"/api/{shop.store}/schedule/miles/trigger")).status_code == 404


async def test_without_temporal_what_the_database_knows_is_shown_and_acts_come_back_later(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", NOWHERE)
    monkeypatch.setattr("api.refusals.TEMPORAL_SECONDS", 0.3)
    async with installation(module_database_url) as installed:
        shop = await installed.shop()
        items = (await shop.client.get(f"/api/{shop.store}/schedule")).json()["items"]
        assert [(item["state"], item["timezone"]) for item in items] == [("unknown", "UTC")] * 3
        assert (await shop.client.get(f"/api/{shop.store}/expiry/points/preview")).json() == {"count": 0, "items": []}
        refused = await shop.client.post(f"/api/{shop.store}/schedule/points/trigger")
        assert refused.status_code == 503
        assert "Temporal" in refused.json()["message"]
        made = await shop.client.post("/api/admin/store", json={"store": {"storeCode": "made-while-temporal-is-away"}})
        assert made.status_code == 200  # a worker makes its schedules when Temporal is back


async def test_looking_is_for_those_who_read_deliveries_and_scanning_for_those_who_act(installed: Installation) -> None:
    shop = await installed.shop()
    reader = await installed.with_key(Scope.DELIVERY_READ)
    assert (await reader.get(f"/api/{shop.store}/expiry/points/preview")).status_code == 200
    assert (await reader.post(f"/api/{shop.store}/schedule/points/trigger")).status_code == 403
    sender = await installed.with_key(Scope.EVENT_EMIT)
    assert (await sender.get(f"/api/{shop.store}/schedule")).status_code == 403


async def test_a_store_sees_its_own_rows_and_scans_alone(office: Office) -> None:
    await synced(office)
    await office.scanning.put(Kind.POINTS, [NOON])
    await office.result_of((await office.post("schedule/points/trigger", {"day": DAY}))["workflowId"])
    shop = await office.installed.shop()
    assert (await shop.client.get(f"/api/{shop.store}/expiry/points/preview", params={"day": DAY})).json()["count"] == 0
    assert (await shop.client.get(f"/api/{shop.store}/schedule/points")).json()["scans"] == []
    assert UUID((await office.get("schedule/points"))["scans"][0]["scanId"])


async def test_a_preview_names_the_platforms_database_in_its_outage(module_database_url: str) -> None:
    platform = "postgresql://reader@127.0.0.1:9/platform"
    async with installation(module_database_url, expiry_database_url=platform) as installed:
        shop = await installed.shop()
        answer = await shop.client.get(f"/api/{shop.store}/expiry/points/preview", params={"day": DAY})
    assert answer.status_code == 503
    assert answer.json()["message"].startswith("Outage of the database of EXPIRY_DATABASE_URL: ")
