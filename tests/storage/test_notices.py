"""Notices are written with what they tell, collapsed by the minute, and forgotten after a month."""

import asyncio
from datetime import UTC
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from domain.delivery.notices import NoticeKind
from storage.access.stores import find_operator, rotate_operator_key, set_operator_url
from storage.deliveries.transitions import exhaust_outwaited
from storage.sealing import Sealer
from storage.subscriptions.notices import (
    Occurrence,
    due_notices,
    forget_notices,
    note,
    note_expiring_certificates,
    notice_not_sent,
    notice_sent,
    stores_with_due_notices,
)
from storage.subscriptions.queries import disable, disable_by_system, pause, resume
from storage.subscriptions.state import failing, record_health
from tests.ground import STORE, Ground
from tests.pipeline import ENCRYPTION_KEY

URL = "https://receiver.example.com/hook?token=0123456789"
OPERATOR = "https://operator.example.com/"
RULES = BreakerRules(failures=3)
SEALER = Sealer([ENCRYPTION_KEY])


@pytest.fixture
async def subscription_id(ground: Ground) -> UUID:
    await ground.execute("TRUNCATE audit")
    async with ground.database.transaction() as connection:
        await set_operator_url(connection, STORE, OPERATOR, SEALER)
    return await ground.subscribe("CustomerUpdated", URL)


async def noted(ground: Ground) -> dict[str, tuple[int, set[str]]]:
    """Kind -> how often and why, whatever minutes it was."""
    found: dict[str, tuple[int, set[str]]] = {}
    for row in await ground.execute("SELECT kind, count, reasons FROM notice"):
        count, reasons = found.get(row.kind, (0, set()))
        found[row.kind] = (count + row.count, reasons | set(row.reasons))
    return found


async def make_due(ground: Ground) -> None:
    await ground.execute("UPDATE notice SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")


async def add_delivery(ground: Ground, subscription_id: UUID, status: str, ended_days_ago: float | None = None) -> None:
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status,
            created_at, ended_at)
        VALUES (gen_random_uuid(), :store, gen_random_uuid(), 'CustomerUpdated', :id, 'main', :url, :status,
            now() - interval '30 days', now() - make_interval(secs => 86400 * CAST(:days AS float8)))
        """,
        store=STORE,
        id=subscription_id,
        url=URL,
        status=status,
        days=ended_days_ago,
    )


async def test_what_many_note_at_once_is_one_notice_a_minute_with_every_count(
    ground: Ground, subscription_id: UUID
) -> None:
    others = [await ground.subscribe("CustomerUpdated", URL) for _ in range(3)]

    async def write(number: int) -> None:
        occurrences = [
            Occurrence(one, kind, "schedule_used_up" if number % 2 else "blocked", 2)
            for one in (subscription_id, *others)
            for kind in (NoticeKind.EXHAUSTED, NoticeKind.FAILING)
        ]
        async with ground.database.transaction() as connection:
            await note(connection, occurrences if number % 3 else reversed(occurrences))

    await asyncio.gather(*(write(number) for number in range(12)))
    rows = await ground.execute("SELECT subscription_id, kind, count(*), sum(count) FROM notice GROUP BY 1, 2")
    assert len(rows) == 8
    assert {(row[2] <= 2, row[3]) for row in rows} == {(True, 24)}  # two where a minute ended meanwhile
    assert (await noted(ground))["delivery.exhausted"][1] == {"schedule_used_up", "blocked"}


async def test_a_breaker_that_opens_and_closes_is_told_once_each(ground: Ground, subscription_id: UUID) -> None:
    steps = [(set(), 2), (set(), 2), (set(), 5), ({subscription_id}, 0), ({subscription_id}, 0), (set(), 1)]
    opened, closed = [], []
    for succeeded, failures in steps:
        async with ground.database.transaction() as connection:
            failed = {subscription_id: failures} if failures else {}
            turns = await record_health(connection, succeeded, failed, RULES)
        opened.append(subscription_id in turns.opened)
        closed.append(subscription_id in turns.closed)
    assert opened == [False, True, False, False, False, False]
    assert closed == [False, False, False, True, False, False]


@pytest.mark.parametrize("reason", ["http_gone", "disabled_by_receiver", "failing"])
async def test_disabling_by_itself_is_told_with_what_it_ended_and_stands_in_the_audit(
    ground: Ground, subscription_id: UUID, reason: str
) -> None:
    for status in ("held", "pending", "delivered"):
        await add_delivery(ground, subscription_id, status)
    for _ in range(2):
        async with ground.database.transaction() as connection:
            await note(connection, await disable_by_system(connection, subscription_id, reason=reason))
    assert await noted(ground) == {
        "subscription.disabled": (1, {reason}),
        "delivery.exhausted": (2, {"subscription_disabled"}),
    }
    [line] = await ground.execute("SELECT * FROM audit WHERE object_id = :id", id=str(subscription_id))
    assert (line.actor, line.action, line.object_type) == ("system", "disable", "subscription")
    assert (line.object_id, line.store_code) == (str(subscription_id), STORE)
    assert line.changes == {"status": {"before": "active", "after": "disabled"}, "reason": reason}


async def test_who_disabled_a_subscription_stays_out_of_the_notice(ground: Ground, subscription_id: UUID) -> None:
    async with ground.database.transaction() as connection:
        assert await disable(connection, subscription_id, reason="by somebody@example.com")
    assert await noted(ground) == {"subscription.disabled": (1, {"by_person"})}
    assert await ground.execute("SELECT * FROM audit") == []  # whoever let the person do it writes it


async def test_nothing_is_noted_of_what_was_rolled_back(ground: Ground, subscription_id: UUID) -> None:
    async def disable_and_fail(connection: AsyncConnection) -> None:
        await disable(connection, subscription_id, reason="by a person")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with ground.database.transaction() as connection:
            await disable_and_fail(connection)
    assert await noted(ground) == {}


async def test_a_notice_is_due_after_its_minute_and_then_until_it_is_sent(
    ground: Ground, subscription_id: UUID
) -> None:
    async with ground.database.transaction() as connection:
        await note(connection, [Occurrence(subscription_id, NoticeKind.FAILING, "http_5xx")])
        assert await due_notices(connection, STORE) == []
        [early] = (await connection.exec_driver_sql("SELECT due_at - minute FROM notice")).one()
    assert early.total_seconds() == 62
    await make_due(ground)
    async with ground.database.transaction() as connection:
        assert await stores_with_due_notices(connection, mail=False) == {STORE}
        [due] = await due_notices(connection, STORE)
        assert (due.notice.target, due.notice.event_name) == ("receiver.example.com/hook", "CustomerUpdated")
        await notice_not_sent(connection, due.notice.id, failure="http_5xx", next_in_seconds=60)
        assert await due_notices(connection, STORE) == []
    await make_due(ground)
    async with ground.database.transaction() as connection:
        [again] = await due_notices(connection, STORE)
        assert (again.notice, again.attempts) == (due.notice, 1)
        await notice_sent(connection, due.notice.id)
        assert await stores_with_due_notices(connection, mail=False) == set()


async def test_without_an_operator_nothing_is_due_but_it_is_kept(ground: Ground, subscription_id: UUID) -> None:
    async with ground.database.transaction() as connection:
        await note(connection, [Occurrence(subscription_id, NoticeKind.FAILING)])
        await set_operator_url(connection, STORE, None, SEALER)
        await note(connection, [Occurrence(subscription_id, NoticeKind.RECOVERED)])
    rows = await ground.execute("SELECT due_at FROM notice")
    assert [row.due_at for row in rows] == [None, None]


async def test_what_was_noted_while_its_operator_was_removed_keeps_nobody_busy(
    ground: Ground, subscription_id: UUID
) -> None:
    async with ground.database.transaction() as connection:
        await note(connection, [Occurrence(subscription_id, NoticeKind.FAILING)])
    await make_due(ground)
    await ground.execute("DELETE FROM store_operator")
    async with ground.database.transaction() as connection:
        assert await stores_with_due_notices(connection, mail=False) == set()


async def test_the_key_before_a_rotation_signs_for_a_day(ground: Ground, subscription_id: UUID) -> None:
    async with ground.database.transaction() as connection:
        secret = await rotate_operator_key(connection, STORE, SEALER)
        operator = await find_operator(connection, STORE)
        assert operator is not None
        assert operator.sealed_previous_secret is not None
        assert SEALER.open(operator.sealed_secret) == secret
    await ground.execute("UPDATE store_operator SET previous_secret_until = now()")
    async with ground.database.transaction() as connection:
        operator = await find_operator(connection, STORE)
        assert operator is not None
        assert operator.sealed_previous_secret is None


async def test_failing_counts_what_was_not_delivered_since_the_first_failure(
    ground: Ground, subscription_id: UUID
) -> None:
    async with ground.database.transaction() as connection:
        await record_health(connection, (), {subscription_id: 20}, RULES)
    for status, ended_days_ago in (
        ("held", None),
        ("pending", None),
        ("exhausted", 1),
        ("exhausted", 7),
        ("delivered", 1),
        ("cancelled", 1),
    ):
        await add_delivery(ground, subscription_id, status, ended_days_ago)
    day = 86400.0
    async with ground.database.transaction() as connection:
        assert await failing(connection, subscription_id, at_least_seconds=5 * day, most=10) == (None, 0)
    await ground.execute("UPDATE subscription_health SET failing_since = now() - interval '6 days'")
    await ground.execute("UPDATE subscription SET status_since = now() - interval '7 days'")
    async with ground.database.transaction() as connection:
        seconds, deliveries = await failing(connection, subscription_id, at_least_seconds=5 * day, most=10)
        assert seconds is not None
        assert 6 * day <= seconds < 6.1 * day
        assert deliveries == 3
        assert (await failing(connection, subscription_id, at_least_seconds=5 * day, most=2))[1] == 2
        assert await failing(connection, uuid4(), at_least_seconds=0, most=2) == (None, 0)
        await pause(connection, subscription_id, reason="by hand")
        await resume(connection, subscription_id)
        assert await failing(connection, subscription_id, at_least_seconds=day, most=10) == (None, 0), "not in a pause"


async def test_what_waited_too_long_is_counted(ground: Ground, subscription_id: UUID) -> None:
    for _ in range(3):
        await add_delivery(ground, subscription_id, "held")
    await ground.execute("UPDATE subscription SET status_since = now() - interval '7 days'")
    await ground.execute(
        "INSERT INTO subscription_health (subscription_id, breaker_opened_at) VALUES (:id, now() - interval '7 days')",
        id=subscription_id,
    )
    async with ground.database.transaction() as connection:
        assert await exhaust_outwaited(connection, subscription_id, 86400) == 3
        assert await exhaust_outwaited(connection, subscription_id, 86400) == 0


async def test_old_notices_are_forgotten(ground: Ground, subscription_id: UUID) -> None:
    async with ground.database.transaction() as connection:
        await note(connection, [Occurrence(subscription_id, NoticeKind.FAILING)])
        assert await forget_notices(connection) == 0
    await ground.execute("UPDATE notice SET minute = minute - interval '31 days'")
    async with ground.database.transaction() as connection:
        assert await forget_notices(connection) == 1


async def test_a_certificate_that_expires_soon_is_noted_weekly_and_in_the_last_week_daily(
    ground: Ground, subscription_id: UUID
) -> None:
    async def expires(days: int) -> None:
        await ground.execute(
            "UPDATE subscription SET certificate_expires_at = clock_timestamp() + make_interval(days => :days)",
            days=days,
        )

    async def days_pass(days: int) -> None:
        """Make certificate and notices so many days older."""
        gone = f"interval '{days} days'"
        await ground.execute(f"UPDATE subscription SET certificate_expires_at = certificate_expires_at - {gone}")
        await ground.execute(
            f"UPDATE notice SET minute = minute - {gone}, reasons = ARRAY(SELECT"
            f" to_char(CAST(one AS date) - {gone}, 'YYYY-MM-DD') FROM unnest(reasons) AS one)"
        )

    async def look() -> int:
        """The number of notices after a look at the certificates."""
        async with ground.database.transaction() as connection:
            await note_expiring_certificates(connection)
        counted: int = await ground.scalar("SELECT coalesce(sum(count), 0) FROM notice")
        return counted

    await expires(31)
    assert await look() == 0
    await days_pass(2)
    assert [await look(), await look()] == [1, 1]
    [notice] = await ground.execute("SELECT kind, reasons, count, due_at FROM notice")
    expiry = await ground.scalar("SELECT certificate_expires_at FROM subscription")
    assert (notice.kind, notice.count) == ("subscription.certificate_expiring", 1)
    assert notice.reasons == [expiry.astimezone(UTC).strftime("%Y-%m-%d")]
    assert notice.due_at is not None
    await days_pass(6)
    assert await look() == 1
    await days_pass(2)
    assert [await look(), await look()] == [2, 2]
    await days_pass(15)
    assert await look() == 3
    await days_pass(2)
    assert await look() == 4
    await expires(3)  # replaced by one that expires soon, too
    assert [await look(), await look()] == [5, 5]
    await days_pass(4)
    assert await look() == 6
    await expires(400)
    assert await look() == 6
    await expires(-1)
    await ground.edit(subscription_id, status="disabled")
    await days_pass(2)
    assert await look() == 6
