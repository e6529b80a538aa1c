"""`schedules …` against a real API, Temporal and a worker that scans."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from domain.access import Scope
from domain.expiry.rows import Kind
from storage.sealing import Sealer
from tests.api.installation import Installation, installation
from tests.api.serving import serving
from tests.commands.running import Ended, run
from tests.expiry_ground import Scanning, scanning
from tests.ground import STORE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = "2026-03-01"


@dataclass
class Desk:
    """Where somebody types commands about the store."""

    installed: Installation
    scanning: Scanning
    root: str
    key: str
    directory: Path

    async def run(self, *arguments: str) -> Ended:
        environment = {"LOYALTY_WEBHOOKS_API": self.root, "LOYALTY_WEBHOOKS_KEY": self.key}
        return await run("schedules", *arguments, directory=self.directory, environment=environment)

    async def said(self, *arguments: str) -> str:
        ended = await self.run(*arguments)
        assert ended.code == 0, ended.errors
        return ended.output


@pytest.fixture
async def desk(
    module_database_url: str, temporal_namespace: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_namespace.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_namespace.client.namespace)
    key = Fernet.generate_key().decode()
    async with scanning(module_database_url, temporal_namespace) as running:
        running.sealer = Sealer([key])
        changes = {"encryption_keys": key, "task_queue": running.task_queue}
        async with installation(module_database_url, **changes) as installed, serving(installed.app) as root:
            yield Desk(installed, running, root, installed.admin_key, tmp_path)


async def test_what_expires_is_previewed_triggered_and_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "3 created, 0 updated" in await desk.said("sync")
    assert "0 created, 0 updated" in await desk.said("sync")
    await desk.scanning.put(Kind.POINTS, [NOON] * 3)
    previewed = await desk.said("preview", "--kind", "points", "--day", DAY, "--store", STORE)
    assert f"3 of points expire on {DAY}." in previewed
    assert '"type": "account.expiring_points_notification"' in previewed
    assert '"eventName": "PointsWillExpire"' in previewed
    assert await desk.scanning.count() == 0
    triggered = await desk.said("trigger", "--kind", "points", "--day", DAY)
    assert f"Scanning {DAY}: expiry/{STORE}/points/{DAY}" in triggered
    assert f"{DAY}: 3 due, 3 emitted" in triggered
    assert await desk.scanning.count() == 3
    await desk.scanning.client.get_workflow_handle(f"expiry/{STORE}/points/{DAY}").result()
    again = await desk.said("trigger", "--kind", "points", "--day", DAY)
    assert f"{DAY}: 3 due, 0 emitted, 3 already known" in again
    monkeypatch.setattr("commands.actions.schedules.JOINED_SECONDS", 0.5)
    await desk.scanning.client.get_workflow_handle(f"expiry/{STORE}/points/{DAY}").result()
    ending = await desk.scanning.client.start_workflow(
        "of-nobody", id=f"expiry/{STORE}/points/{DAY}", task_queue="none"
    )
    joined = await desk.said("trigger", "--kind", "points", "--day", DAY)
    assert f"{DAY}: 3 due, 0 emitted, 3 already known" in joined, "the scan that was ending"
    await ending.terminate()
    assert json.loads(await desk.said("preview", "--kind", "points", "--day", DAY, "--json"))["count"] == 3
    assert "yes" in await desk.said("preview", "--kind", "points", "--day", DAY)
    listed = await desk.said("list")
    assert "points" in listed
    assert "active" in listed
    assert f"{DAY}: 3 due" in listed
    assert [item["kind"] for item in json.loads(await desk.said("list", "--json"))] == ["points", "levels", "coupons"]

    assert "is paused" in await desk.said("pause", "--kind", "levels")
    assert "paused: paused by" in await desk.said("list")
    assert "is resumed" in await desk.said("resume", "--kind", "levels")


async def test_days_are_backfilled(desk: Desk) -> None:
    await desk.scanning.put(Kind.LEVELS, [NOON + timedelta(days=number) for number in range(4)])
    said = await desk.said("backfill", "--kind", "levels", "--from", "2026-03-02", "--to", "2026-03-03")
    assert "Scanning 2026-03-02 to 2026-03-03" in said
    workflow_id = f"expiry/{STORE}/levels/2026-03-02..2026-03-03"
    await desk.scanning.client.get_workflow_handle(workflow_id).result()
    assert await desk.scanning.scalar("SELECT count(*) FROM event") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("trigger", "--kind", "miles"), 2, "miles"),
        (("trigger",), 2, "--kind"),
        (("trigger", "--kind", "points", "--day", "2026-02-30"), 2, "such as 2026-01-02"),
        (("backfill", "--kind", "points", "--from", "2026-03-02", "--to", "2026-03-01"), 1, "must not be before"),
        (("pause", "--kind", "points"), 1, "schedules sync"),
        (("list", "--store", "nowhere"), 1, "nowhere"),
    ],
)
async def test_what_cannot_be_done_is_said(desk: Desk, arguments: tuple[str, ...], code: int, reason: str) -> None:
    ended = await desk.run(*arguments)
    assert ended.code == code
    assert reason in ended.errors


async def test_a_key_without_the_right_is_told_which_it_lacks(desk: Desk) -> None:
    desk.key = await desk.installed.key(Scope.DELIVERY_READ)
    assert (await desk.run("preview", "--kind", "points")).code == 0
    refused = await desk.run("trigger", "--kind", "points")
    assert "delivery:act" in refused.errors
