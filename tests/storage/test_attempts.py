"""Intents and outcomes in bulk: whose number it is, what a late word changes, and many writers at once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.breaker import BreakerRules
from storage.database import Database
from storage.deliveries.attempts import Intent, Outcome, intend
from storage.deliveries.matching import match
from storage.deliveries.open import load
from storage.deliveries.transitions import cancel, record, recover
from storage.operations.workers import LEASE_SECONDS, leave, touch
from storage.subscriptions.queries import disable
from storage.subscriptions.state import record_health
from tests.ground import STORE, Ground, today
from tests.storage.plans import explained

RULES = BreakerRules(failures=10_000)


def intent(
    message_id: UUID, number: int = 1, worker_id: UUID | None = None, recorded: int = 0, status: str = "pending"
) -> Intent:
    worker_id = worker_id or uuid4()
    return Intent(today(), message_id, number, uuid4(), "automatic", worker_id, False, status, recorded)


def outcome(message_id: UUID, number: int = 1, status: str = "pending", **given: object) -> Outcome:
    failed = status != "delivered"
    made = Outcome(
        accepted_on=today(),
        message_id=message_id,
        number=number,
        began_seconds_ago=0.5,
        duration_ms=500,
        status_code=500 if failed else 200,
        failure="http_5xx" if failed else None,
        detail=None,
        response_excerpt="ok",
        body_sha256=b"\0" * 32,
        url="http://receiver.example.com/",
        status=status,
        reason=None,
        failures=number if failed else number - 1,
        next_in_seconds=60.0 if status == "pending" else None,
        workflow_id=None,
    )
    return replace(made, **given)  # type: ignore[arg-type]


async def matched(ground: Ground, count: int = 1, worker_id: UUID | None = None) -> list[UUID]:
    """Message ids of so many deliveries to one subscription, matched by a worker that took none of them."""
    if not await ground.execute("SELECT FROM subscription"):
        await ground.subscribe("CustomerUpdated", "http://receiver.example.com/")
    event_ids = await ground.emit("CustomerUpdated", "{}", count)
    async with ground.database.transaction() as connection:
        made = await match(
            connection,
            [(STORE, event_id) for event_id in event_ids],
            worker_id=worker_id or uuid4(),
            may_begin=lambda _: True,
        )
    await ground.execute("DELETE FROM attempt")
    return [delivery.message_id for delivery in made]


async def intended(ground: Ground, *intents: Intent) -> set[tuple[UUID, int]]:
    async with ground.database.transaction() as connection:
        return await intend(connection, intents)


async def recorded(ground: Ground, *outcomes: Outcome) -> None:
    async with ground.database.transaction() as connection:
        await record(connection, outcomes)


async def test_a_number_belongs_to_whoever_wrote_it_first(ground: Ground) -> None:
    [message_id] = await matched(ground)
    first, second = intent(message_id), intent(message_id)
    assert await intended(ground, first) == {(message_id, 1)}
    assert await intended(ground, second) == set()
    [attempt] = await ground.attempts(message_id)
    assert attempt.worker_id == first.worker_id


async def test_of_senders_at_once_one_gets_the_number(ground: Ground, cleared_url: str) -> None:
    message_ids = await matched(ground, 20)
    workers = [Ground(Database(cleared_url, pool_size=1)) for _ in range(4)]
    intents = [[intent(message_id) for message_id in message_ids] for _ in workers]
    written = await asyncio.gather(*(intended(worker, *mine) for worker, mine in zip(workers, intents, strict=True)))
    for worker in workers:
        await worker.database.close()
    assert sum(len(mine) for mine in written) == 20
    assert set().union(*written) == {(message_id, 1) for message_id in message_ids}


async def test_the_next_number_closes_what_nobody_will_close(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1))
    await recorded(ground, outcome(message_id, 1))
    await intended(ground, intent(message_id, 2, recorded=1))
    await intended(ground, intent(message_id, 3, recorded=1))
    closed = [(attempt.number, attempt.failure) for attempt in await ground.attempts(message_id)]
    assert closed == [(1, "http_5xx"), (2, "interrupted"), (3, None)]


async def test_an_intent_after_a_recorded_outcome_is_one_statement(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1))
    await recorded(ground, outcome(message_id, 1))
    async with ground.database.transaction() as connection, explained(connection) as plans:
        assert await intend(connection, [intent(message_id, 2, recorded=1)]) == {(message_id, 2)}
    assert len(plans) == 1


async def test_an_outcome_moves_its_delivery_and_keeps_the_databases_time(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    await recorded(ground, outcome(message_id, workflow_id="event/x"))
    [delivery] = await ground.deliveries()
    assert (delivery.status, delivery.attempts, delivery.failures) == ("pending", 1, 1)
    assert (delivery.last_status_code, delivery.last_failure, delivery.workflow_id) == (500, "http_5xx", "event/x")
    assert delivery.ended_at is None
    [attempt] = await ground.attempts(message_id)
    assert (attempt.outcome_at - attempt.started_at).total_seconds() == pytest.approx(0.5, abs=0.4)
    assert (delivery.next_attempt_at - attempt.outcome_at).total_seconds() == pytest.approx(60, abs=5)


async def test_the_outcome_that_makes_a_delivery_wait_commits_the_id_of_its_activity(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1))
    await recorded(ground, outcome(message_id, 1))
    assert [row.retry_id for row in await ground.deliveries()] == [f"{message_id}/1"]
    await intended(ground, intent(message_id, 2, recorded=1))
    await recorded(ground, outcome(message_id, 2))
    assert [row.retry_id for row in await ground.deliveries()] == [f"{message_id}/1"], "later failures keep it"
    await intended(ground, intent(message_id, 3, recorded=2))
    await recorded(ground, outcome(message_id, 3, "held", workflow_id="subscription/x", next_in_seconds=60.0))
    [delivery] = await ground.deliveries()
    assert (delivery.status, delivery.retry_id, delivery.workflow_id) == ("held", None, "subscription/x")


async def test_what_a_receiver_asks_for_is_a_fact_beside_the_schedule(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1))
    await recorded(ground, outcome(message_id, 1, retry_after_seconds=30.0))
    [delivery] = await ground.deliveries()
    assert (delivery.next_attempt_at - delivery.not_before).total_seconds() == pytest.approx(30, abs=5)
    await intended(ground, intent(message_id, 2, recorded=1))
    await recorded(ground, outcome(message_id, 2, "exhausted", retry_after_seconds=30.0))
    [delivery] = await ground.deliveries()
    assert (delivery.not_before, delivery.next_attempt_at) == (None, None)


@pytest.mark.parametrize("status", ["delivered", "exhausted", "cancelled"])
async def test_a_delivery_that_ended_has_an_end_and_no_next_attempt(ground: Ground, status: str) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    await recorded(ground, outcome(message_id, status=status))
    [delivery] = await ground.deliveries()
    assert delivery.status == status
    assert delivery.ended_at is not None
    assert delivery.next_attempt_at is None


@pytest.mark.parametrize(
    ("before", "number", "status", "expected"),
    [
        pytest.param("delivered", 2, "pending", "delivered", id="delivered stays delivered"),
        pytest.param("delivered", 2, "exhausted", "delivered", id="delivered is not exhausted"),
        pytest.param("exhausted", 2, "pending", "exhausted", id="exhausted stays exhausted"),
        pytest.param("exhausted", 1, "delivered", "delivered", id="exhausted is delivered by a late success"),
        pytest.param("cancelled", 2, "pending", "cancelled", id="cancelled stays cancelled"),
        pytest.param("cancelled", 2, "delivered", "delivered", id="cancelled is delivered by a success"),
        pytest.param("pending", 1, "exhausted", "pending", id="an earlier attempt's end is not the delivery's"),
        pytest.param("pending", 2, "exhausted", "exhausted", id="the last attempt's is"),
        pytest.param("pending", 3, "pending", "pending", id="the next attempt"),
    ],
)
async def test_the_table_of_late_words(ground: Ground, before: str, number: int, status: str, expected: str) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1), intent(message_id, 2), intent(message_id, 3))
    await recorded(ground, outcome(message_id, 2, before))
    await recorded(ground, outcome(message_id, number, status))
    [delivery] = await ground.deliveries()
    assert delivery.status == expected
    assert delivery.attempts == max(2, number if expected == status else 0)
    attempt = (await ground.attempts(message_id))[number - 1]
    assert attempt.outcome_at is not None, "the attempt's own row says what came of it in any case"


async def test_a_redelivery_that_fails_leaves_a_recovered_delivery_its_schedule(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id, 1))
    await recorded(ground, outcome(message_id, 1, "exhausted", failures=13))
    await intended(ground, replace(intent(message_id, 2, recorded=1), trigger="manual"))
    await ground.execute("UPDATE delivery SET status = 'held', failures = 0, next_attempt_at = now() + interval '1 h'")
    [before] = await ground.deliveries()
    await recorded(ground, outcome(message_id, 2, "unchanged", failures=13))
    [delivery] = await ground.deliveries()
    assert (delivery.status, delivery.failures, delivery.attempts) == ("held", 0, 2)
    assert delivery.next_attempt_at == before.next_attempt_at


@pytest.mark.parametrize(
    ("read", "status", "trigger", "goes"),
    [
        ("pending", "pending", "automatic", True),
        ("held", "held", "automatic", True),
        ("pending", "held", "automatic", False),
        ("pending", "cancelled", "automatic", False),
        ("held", "exhausted", "automatic", False),
        ("pending", "delivered", "automatic", False),
        ("held", "cancelled", "manual", True),
        ("pending", "delivered", "manual", True),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
async def test_a_delivery_whose_status_changed_since_it_was_read_is_sent_only_by_a_manual_attempt(
    ground: Ground, read: str, status: str, trigger: str, goes: bool, number: int
) -> None:
    [message_id] = await matched(ground)
    if number == 2:
        await intended(ground, intent(message_id))
        await recorded(ground, outcome(message_id))
    await ground.execute("UPDATE delivery SET status = :status", status=status)
    asked = replace(intent(message_id, number, recorded=number - 1, status=read), trigger=trigger)
    assert await intended(ground, asked) == ({(message_id, number)} if goes else set())
    assert len(await ground.attempts(message_id)) == number - 1 + goes


async def test_a_delivery_recovered_after_an_activity_read_it_is_sent_by_the_drain_alone(ground: Ground) -> None:
    [message_id] = await matched(ground)
    [subscription] = await ground.execute("SELECT id FROM subscription")
    async with ground.database.transaction() as connection:
        assert await cancel(connection, message_id)
        recovered = await recover(
            connection, [message_id], statuses=["cancelled"], subscription_id=subscription.id, action_id=uuid4()
        )
    assert recovered == 1
    assert await intended(ground, intent(message_id, status="pending")) == set()
    assert await intended(ground, intent(message_id, status="held")) == {(message_id, 1)}


@pytest.mark.parametrize("late", ["pending", "held", "exhausted", "cancelled"])
async def test_a_failure_whose_attempt_began_before_a_recovery_leaves_the_recovered_delivery_as_it_is(
    ground: Ground, late: str
) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    await recorded(ground, outcome(message_id))
    await intended(ground, intent(message_id, 2, recorded=1))
    async with ground.database.transaction() as connection:
        assert await cancel(connection, message_id)
    await recovered(ground, message_id)
    await recorded(ground, outcome(message_id, 2, late, failures=13, next_in_seconds=3600.0))
    [delivery] = await ground.deliveries()
    assert (delivery.status, delivery.reason, delivery.failures) == ("held", "recovered", 0)
    assert (delivery.attempts, delivery.next_attempt_at, delivery.ended_at) == (2, None, None)
    assert (await ground.attempts(message_id))[1].outcome_at is not None
    assert await intended(ground, intent(message_id, 3, recorded=2, status="held")) == {(message_id, 3)}
    await recorded(ground, outcome(message_id, 3, "held", failures=1, reason="retry"))
    [delivery] = await ground.deliveries()
    assert (delivery.reason, delivery.failures, delivery.attempts) == ("retry", 1, 3)


async def test_the_outcome_that_ended_a_delivery_may_be_written_again_after_its_recovery(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    await recorded(ground, outcome(message_id, 1, "exhausted", failures=13))
    await recovered(ground, message_id)
    await recorded(ground, outcome(message_id, 1, "exhausted", failures=13))
    [delivery] = await ground.deliveries()
    assert (delivery.status, delivery.reason, delivery.failures) == ("held", "recovered", 0)


async def test_a_success_whose_attempt_began_before_a_recovery_delivers(ground: Ground) -> None:
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    async with ground.database.transaction() as connection:
        assert await cancel(connection, message_id)
    await recovered(ground, message_id)
    await recorded(ground, outcome(message_id, 1, "delivered"))
    assert [row.status for row in await ground.deliveries()] == ["delivered"]


async def recovered(ground: Ground, message_id: UUID) -> None:
    subscription_id = await ground.scalar("SELECT id FROM subscription")
    given = {"statuses": ["cancelled", "exhausted"], "subscription_id": subscription_id, "action_id": uuid4()}
    async with ground.database.transaction() as connection:
        assert await recover(connection, [message_id], **given) == 1


async def test_an_outcome_written_twice_is_written_once(ground: Ground) -> None:
    """The answer to the commit was lost, so the recorder writes it again."""
    [message_id] = await matched(ground)
    await intended(ground, intent(message_id))
    for _ in range(2):
        await recorded(ground, outcome(message_id))
    [delivery] = await ground.deliveries()
    assert (delivery.attempts, delivery.failures, delivery.status) == (1, 1, "pending")
    assert len(await ground.attempts(message_id)) == 1


@pytest.mark.parametrize(
    ("seen", "age", "steady", "live"),
    [
        pytest.param(0, 0, True, True, id="seen now"),
        pytest.param(LEASE_SECONDS - 1, 0, True, True, id="two touches lost"),
        pytest.param(LEASE_SECONDS + 1, 0, True, False, id="not seen for longer than a lease"),
        pytest.param(LEASE_SECONDS + 1, 0, False, True, id="not seen, and nobody else was"),
        pytest.param(0, 590, True, True, id="an attempt of ten minutes, less ten seconds"),
        pytest.param(0, 601, True, False, id="an attempt nobody can be making any more"),
        pytest.param(0, 601, False, False, id="the same while nobody was seen"),
    ],
)
async def test_a_lease_lives_as_long_as_its_worker_is_seen(
    ground: Ground, seen: int, age: int, steady: bool, live: bool
) -> None:
    [message_id] = await matched(ground)
    worker_id, other = uuid4(), uuid4()
    async with ground.database.transaction() as connection:
        await touch(connection, worker_id)
        await touch(connection, other)
    await intended(ground, intent(message_id, worker_id=worker_id))
    past = "clock_timestamp() - make_interval(secs => :s)"
    while True:
        began = time.monotonic()
        await ground.execute(f"UPDATE worker SET seen_at = {past} WHERE id = :id", s=seen, id=worker_id)
        steadily = f"UPDATE worker SET seen_at = clock_timestamp(), steady_since = {past} WHERE id = :id"
        await ground.execute(steadily, s=60 * steady, id=other)
        await ground.execute(f"UPDATE attempt SET started_at = {past}", s=age)
        sender = await sender_of(ground, message_id)
        if time.monotonic() - began < 0.5:  # else the lease may have lapsed meanwhile
            break
    assert sender == (worker_id if live else None)


async def test_after_an_outage_leases_live_until_somebody_was_seen_for_the_length_of_one(ground: Ground) -> None:
    """Each was about to write what came of its attempts when the database went away."""
    [message_id] = await matched(ground)
    worker_id, other = uuid4(), uuid4()
    async with ground.database.transaction() as connection:
        await touch(connection, worker_id)
        await touch(connection, other)
    await intended(ground, intent(message_id, worker_id=worker_id))
    await ground.execute(
        "UPDATE worker SET seen_at = now() - interval '1 minute', steady_since = now() - interval '1 hour'"
    )
    async with ground.database.transaction() as connection:
        await touch(connection, other)
    assert await sender_of(ground, message_id) == worker_id
    await ground.execute("UPDATE worker SET steady_since = now() - interval '4 seconds' WHERE id = :id", id=other)
    assert await sender_of(ground, message_id) is None


async def sender_of(ground: Ground, message_id: UUID) -> UUID | None:
    async with ground.database.transaction() as connection:
        delivery = await load(connection, message_id)
    assert delivery is not None
    return delivery.sender_id


async def test_a_lease_ends_with_an_outcome_and_with_its_workers_leave(ground: Ground) -> None:
    one, two = await matched(ground, 2)
    worker_id = uuid4()
    async with ground.database.transaction() as connection:
        await touch(connection, worker_id)
    await intended(ground, intent(one, worker_id=worker_id), intent(two, worker_id=worker_id))
    await recorded(ground, outcome(one))
    assert await sender_of(ground, one) is None
    assert await sender_of(ground, two) == worker_id
    async with ground.database.transaction() as connection:
        await leave(connection, worker_id)
    assert await sender_of(ground, two) is None


async def test_leaving_forgets_only_those_who_died_long_ago(ground: Ground) -> None:
    ids = [uuid4() for _ in range(3)]
    async with ground.database.transaction() as connection:
        for worker_id in ids:
            await touch(connection, worker_id)
    await ground.execute("UPDATE worker SET seen_at = now() - interval '8 days' WHERE id = :id", id=ids[0])
    await ground.execute("UPDATE worker SET seen_at = now() - interval '1 hour' WHERE id = :id", id=ids[1])
    async with ground.database.transaction() as connection:
        await leave(connection, ids[2])
    assert [row.id for row in await ground.execute("SELECT id FROM worker")] == [ids[1]]


async def deadlocks(ground: Ground) -> int:
    await ground.execute("SELECT pg_stat_force_next_flush()")
    return int(await ground.scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))


async def at_once(url: str, *writers: Sequence[Callable[[AsyncConnection], object]], rounds: int = 40) -> None:
    """Each writer runs its steps in one transaction, again and again, beside the others."""

    async def run(steps: Sequence[Callable[[AsyncConnection], object]]) -> None:
        database = Database(url, pool_size=1)
        for _ in range(rounds):
            async with database.transaction() as connection:
                for step in steps:
                    await step(connection)  # type: ignore[misc]
        await database.close()

    await asyncio.gather(*(run(steps) for steps in writers))


async def test_receivers_that_go_up_and_down_do_not_make_two_workers_wait_for_each_other(
    ground: Ground, cleared_url: str
) -> None:
    ids = sorted(uuid4() for _ in range(6))
    async with ground.database.transaction() as connection:
        await record_health(connection, (), dict.fromkeys(ids, 1), RULES)
    before = await deadlocks(ground)

    def health(succeeded: list[UUID], failed: list[UUID]) -> Callable[[AsyncConnection], object]:
        return lambda connection: record_health(connection, set(succeeded), dict.fromkeys(failed, 1), RULES)

    await at_once(
        cleared_url,
        [health(ids[3:], ids[:3])],
        [health(ids[:3], ids[3:])],
        [health(ids[::2], ids[1::2])],
        rounds=60,
    )
    assert await deadlocks(ground) == before


async def test_a_receiver_that_wants_no_more_does_not_make_two_workers_wait_for_each_other(
    ground: Ground, cleared_url: str
) -> None:
    """Each has outcomes of its own to write and finds that the subscription is to be disabled, with all its rows."""
    message_ids = await matched(ground, 20)
    subscription_id = await ground.scalar("SELECT id FROM subscription")
    await intended(ground, *(intent(message_id) for message_id in message_ids))
    both_have_written = asyncio.Barrier(2)
    before = await deadlocks(ground)

    def outcomes(mine: list[UUID]) -> Callable[[AsyncConnection], object]:
        return lambda connection: record(connection, [outcome(one) for one in mine])

    def gone(connection: AsyncConnection) -> object:
        return disable(connection, subscription_id, reason="http_gone")

    def meet(_: AsyncConnection) -> object:
        return both_have_written.wait()

    await at_once(
        cleared_url,
        [outcomes(message_ids[:9]), meet, gone],
        [outcomes(message_ids[9:18]), meet, gone],
        rounds=1,
    )
    assert await deadlocks(ground) == before
    statuses = [delivery.status for delivery in await ground.deliveries()]
    assert statuses.count("exhausted") >= 11, "its own and those nobody was writing"
    [subscription] = await ground.execute("SELECT status, status_reason FROM subscription")
    assert tuple(subscription) == ("disabled", "http_gone")


async def test_disabling_a_busy_subscription_does_not_wait_for_its_recorders(ground: Ground, cleared_url: str) -> None:
    message_ids = await matched(ground, 200)
    subscription_id = await ground.scalar("SELECT id FROM subscription")
    await intended(ground, *(intent(message_id) for message_id in message_ids))
    before = await deadlocks(ground)

    def outcomes(mine: list[UUID]) -> Callable[[AsyncConnection], object]:
        return lambda connection: record(connection, [outcome(one) for one in mine])

    async def off_and_on(connection: AsyncConnection) -> None:
        await disable(connection, subscription_id, reason="by a person")
        await connection.exec_driver_sql("UPDATE subscription SET status = 'active'")

    await at_once(
        cleared_url, [outcomes(message_ids[:100][::-1])], [outcomes(message_ids[100:])], [off_and_on], rounds=20
    )
    assert await deadlocks(ground) == before
