"""Expiring in the panel: schedules, previews, scans by hand, with a real Temporal and a worker that scans."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from domain.expiry.rows import Kind
from storage.sealing import Sealer
from tests.api.installation import Installation, Shop, installation
from tests.deadlines import eventually
from tests.expiry_ground import Scanning, scanning
from tests.ground import STORE
from tests.panel.conftest import Visit
from tests.panel.queries import statements
from tests.panel.visitor import Visitor, visitor

DAY = "2026-03-01"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_SECONDS = 20.0


@dataclass
class Office:
    """An editor at the panel, and a worker that scans."""

    installed: Installation
    editor: Visitor
    scanning: Scanning

    async def look(self, path: str = "") -> str:
        """A page below Expiring."""
        response = await self.editor.get(f"/admin/{STORE}/expiring{path}")
        assert response.status_code == 200, response.text
        return response.text

    async def act(self, path: str, **fields: str) -> str:
        """Send a form, and read the page it leads to."""
        response = await self.editor.post(f"/admin/{STORE}/expiring{path}", fields)
        assert response.status_code == 303, response.text
        return (await self.editor.get(response.headers["location"])).text

    async def finished(self, count: int, kind: Kind) -> str:
        """Wait until so many scans have ended; what the page shows of them."""

        async def reached() -> bool:
            return len([scan for scan in await self.scanning.scans(kind) if scan.finished_at is not None]) == count

        await eventually(reached, PATIENCE_SECONDS, f"{count} scans of {kind}")
        return await self.look(f"/{kind}/scans")


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
            yield Office(installed, await visitor(installed, "editor", (STORE,)), running)


def states(text: str) -> list[str]:
    return re.findall(r'class="badge status-(active|paused|missing|unknown)"', text)


async def test_schedules_that_are_not_there_are_made_by_a_button(office: Office) -> None:
    assert states(await office.look()) == ["missing"] * 3
    text = await office.act("")
    assert "The schedules match the settings of the store." in text
    assert states(text) == ["active"] * 3
    assert text.count("<dt>Next run</dt><dd><time") == 3
    assert "Create or repair now" not in text


async def test_a_paused_schedule_says_so_and_runs_again_when_resumed(office: Office) -> None:
    await office.act("")
    assert "Pause the schedule of levels?" in await office.look("/levels")
    text = await office.act("/levels/paused", paused="true")
    assert "The schedule of levels is paused." in text
    assert f"paused by administrator:{office.editor.username}" in text
    assert states(await office.look()) == ["active", "paused", "active"]
    assert "runs again" in await office.act("/levels/paused")
    assert states(await office.look()) == ["active"] * 3


async def test_a_day_scanned_by_hand_shows_its_counts(office: Office) -> None:
    await office.act("")
    assert "Nothing has been scanned yet" in await office.look("/points")
    await office.scanning.put(Kind.POINTS, [NOON] * 3)
    assert f"{DAY} is being scanned." in await office.act("/points/scan", day=DAY)
    text = await office.finished(1, Kind.POINTS)
    assert re.findall(r'<td class="number"[^>]*>([\d,]+)</td>', text) == ["3", "3", "0", "0", "0"]
    assert "manual" in text
    assert 'data-poll-seconds="15"' in text
    assert "<html" not in text


async def test_several_days_are_scanned_in_their_order(office: Office) -> None:
    await office.act("")
    await office.scanning.put(Kind.LEVELS, [NOON + timedelta(days=number) for number in range(3)])
    said = await office.act("/levels/backfill", firstDay="2026-03-02", lastDay="2026-03-03")
    assert "2026-03-02 to 2026-03-03 are being scanned" in said
    text = await office.finished(2, Kind.LEVELS)
    assert re.findall(r'nowrap">(2026-03-\d\d)<', text) == ["2026-03-03", "2026-03-02"]


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("scan", {"day": "yesterday"}, "day"),
        ("backfill", {"firstDay": "2026-03-02", "lastDay": "2026-03-01"}, "lastDay"),
        ("backfill", {"firstDay": "2026-03-02", "lastDay": "2028-03-01"}, "lastDay"),
        ("backfill", {"firstDay": "", "lastDay": "2028-03-01"}, "firstDay"),
    ],
)
async def test_days_that_are_none_are_refused_beside_their_fields(
    office: Office, path: str, fields: dict[str, str], field: str
) -> None:
    await office.act("")
    refused = await office.editor.post(f"/admin/{STORE}/expiring/points/{path}", fields)
    assert refused.status_code == 400
    assert f'id="error-{field}"' in refused.text
    assert await office.scanning.scans() == []


async def test_a_preview_counts_masks_and_sends_nothing(office: Office) -> None:
    await office.act("")
    await office.scanning.put(Kind.COUPONS, [NOON + timedelta(minutes=number) for number in range(12)])
    text = await office.look(f"/coupons/preview?day={DAY}")
    assert f"12 expire on {DAY} in UTC. The first 10 are below." in text
    assert text.count("<details>") == 20
    assert "SPRING-4F7K" not in text
    assert "•••" in text
    assert "Nothing expires on 2026-04-01" in await office.look("/coupons/preview?day=2026-04-01")
    refused = await office.look("/coupons/preview?day=soon")
    assert "must be a day" in refused
    assert "This cannot be shown" in refused
    assert await office.scanning.count(Kind.COUPONS) == 0


async def test_pages_cost_the_same_however_many_scans_there_were(office: Office) -> None:
    await office.act("")
    for path in ("", "/points"):
        with statements(office.installed) as few:
            await office.look(path)
        await office.scanning.scan(NOON.date())
        await office.scanning.scan(NOON.date() + timedelta(days=1))
        with statements(office.installed) as many:
            await office.look(path)
        assert len(many) == len(few) <= 9


async def test_without_temporal_the_page_shows_what_the_database_knows(visit: Visit, shop: Shop) -> None:
    somebody = await visit("editor")
    text = (await somebody.get(f"/admin/{shop.store}/expiring")).text
    assert states(text) == ["unknown"] * 3
    refused = await somebody.post(f"/admin/{shop.store}/expiring/points/scan")
    assert (refused.status_code, 'role="alert"' in refused.text) == (503, True)
    for path in ("/points/paused", ""):
        answer = await somebody.post(f"/admin/{shop.store}/expiring{path}")
        assert 'class="alert alert-danger"' in (await somebody.get(answer.headers["location"])).text


async def test_a_viewer_looks_and_has_no_buttons(visit: Visit, shop: Shop) -> None:
    somebody = await visit("viewer")
    for path in ("", "/points"):
        text = (await somebody.get(f"/admin/{shop.store}/expiring{path}")).text
        assert "/expiring/points/" not in "".join(re.findall(r'action="[^"]*"', text))
    assert (await somebody.get(f"/admin/{shop.store}/expiring/points/preview")).status_code == 200
    assert (await somebody.get(f"/admin/{shop.store}/expiring/nothing")).status_code == 404
