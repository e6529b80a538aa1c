"""The installation's figures count what waits, and nothing that has ended."""

import pytest

from storage.operations import gauges as module
from storage.operations.gauges import installation_figures
from tests.ground import STORE, Ground


async def delivery(
    ground: Ground, subscription_id: object, status: str, count: int = 1, url: str = "http://a/"
) -> None:
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status)
        SELECT gen_random_uuid(), :store, gen_random_uuid(), 'CustomerUpdated', :subscription, 'main', :url, :status
        FROM generate_series(1, :count)
        """,
        **{"store": STORE, "subscription": subscription_id, "url": url, "status": status, "count": count},
    )


async def test_nothing_is_nothing(ground: Ground) -> None:
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert (found.pending, found.held, found.breakers_open, found.workers) == (0, 0, 0, 0)
    assert (found.subscriptions, found.certificate_seconds, found.scan_age_seconds) == ({}, None, {})


async def test_what_waits_is_counted_over_all_destinations(ground: Ground) -> None:
    first, second = [await ground.subscribe("CustomerUpdated", f"http://{name}/") for name in "ab"]
    for subscription, url, status, count in (
        (first, "http://a/", "pending", 3),
        (first, "http://before/", "pending", 2),
        (first, "http://a/", "delivered", 50),
        (second, "http://b/", "exhausted", 7),
        (second, "http://b/", "pending", 1),
        (second, "http://b/", "held", 4),
    ):
        await delivery(ground, subscription, status, count, url)
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert (found.pending, found.held) == (6, 4)


async def test_counting_ends_at_a_bound(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNTED_DELIVERIES", 5)
    subscription = await ground.subscribe("CustomerUpdated", "http://a/")
    for status in ("pending", "held"):
        await delivery(ground, subscription, status, 20)
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert (found.pending, found.held) == (5, 5)


async def test_subscriptions_are_counted_by_status_and_breakers_of_active_ones(ground: Ground) -> None:
    active, paused, deleted, _ = [
        await ground.subscribe("CustomerUpdated", "http://a/", status=status)
        for status in ("active", "paused", "active", "disabled")
    ]
    await ground.edit(deleted, deleted_at=await ground.scalar("SELECT clock_timestamp()"))
    for one in (active, paused, deleted):
        await ground.execute(
            "INSERT INTO subscription_health (subscription_id, breaker_opened_at) VALUES (:id, clock_timestamp())",
            id=one,
        )
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert found.subscriptions == {"active": 1, "paused": 1, "disabled": 1}
    assert found.breakers_open == 1


async def test_the_first_client_certificate_to_expire_is_told_unless_its_subscription_sends_no_more(
    ground: Ground,
) -> None:
    for hours, columns in ((1, {"status": "disabled"}), (2, {}), (50, {"status": "paused"}), (90, {}), (None, {})):
        one = await ground.subscribe("CustomerUpdated", "http://a/", **columns)
        expiry = "SELECT clock_timestamp() + make_interval(hours => :hours)"
        await ground.edit(one, certificate_expires_at=await ground.scalar(expiry, hours=hours))
        if hours == 2:
            await ground.edit(one, deleted_at=await ground.scalar("SELECT clock_timestamp()"))
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert found.certificate_seconds == pytest.approx(50 * 3600, abs=60)


async def test_a_worker_counts_as_long_as_it_is_seen(ground: Ground) -> None:
    for ago in (0, 1, 60):
        await ground.execute(
            "INSERT INTO worker (id, host, pid, seen_at) "
            "VALUES (gen_random_uuid(), 'h', 1, clock_timestamp() - make_interval(secs => :ago))",
            ago=ago,
        )
    async with ground.database.transaction() as connection:
        assert (await installation_figures(connection)).workers == 2


async def test_the_schedules_age_is_that_of_the_store_it_ran_for_longest_ago(ground: Ground) -> None:
    await ground.add_store("other")
    for store, hours, origin in (
        (STORE, 30, "schedule"),
        (STORE, 5, "schedule"),
        (STORE, 1, "manual"),
        ("other", 40, "schedule"),
    ):
        await ground.execute(
            """
            INSERT INTO expiry_scan (id, store_code, kind, origin, timezone, starts_at, ends_at, sees_until,
                workflow_id, position_at, position_id, started_at)
            VALUES (gen_random_uuid(), :store, 'points', :origin, 'UTC', now(), now(), now(), 'w', now(),
                gen_random_uuid(), clock_timestamp() - make_interval(hours => :hours))
            """,
            store=store,
            origin=origin,
            hours=hours,
        )
    for store in (STORE, "other"):
        await ground.execute(
            "INSERT INTO expiry_coverage (store_code, kind, covered_from, covered_until, rows_seen_until) "
            "VALUES (:store, 'points', now(), now(), now())",
            store=store,
        )
    async with ground.database.transaction() as connection:
        found = await installation_figures(connection)
    assert found.scan_age_seconds.keys() == {"points"}
    assert found.scan_age_seconds["points"] == pytest.approx(40 * 3600, abs=600)
