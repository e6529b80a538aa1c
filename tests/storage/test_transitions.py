"""Each statement of the lifecycle, run over deliveries of every status, does what the table of transitions says.

The table is `domain.delivery.lifecycle.TRANSITIONS`. For each cause the functions that carry it out are run. Each has
to change what the rows that name it say; together they set all of the rows' reasons, and nothing else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.delivery.lifecycle import (
    HOLD_REASONS,
    TERMINAL,
    TRANSITIONS,
    UNCHANGED,
    Cause,
    DeliveryStatus,
    Reason,
)
from storage.deliveries import transitions
from storage.deliveries.attempts import Outcome
from storage.deliveries.matching import match
from storage.deliveries.transitions import CARRIED_OUT_BY, Backfill, carried_out_by
from tests.ground import STORE, Ground, today

URL = "http://receiver.example.com/hook"


Change: TypeAlias = tuple[DeliveryStatus | None, DeliveryStatus, Reason | None]


@dataclass
class Setting:
    """One subscription, and one event with its delivery for each status."""

    ground: Ground
    subscription_id: UUID
    event_ids: Mapping[DeliveryStatus, UUID]
    message_ids: Mapping[DeliveryStatus, UUID]


async def match_events(ground: Ground, event_ids: Sequence[UUID], *, may_begin: bool = True) -> None:
    async with ground.database.transaction() as connection:
        keys = [(STORE, one) for one in event_ids]
        await match(connection, keys, worker_id=uuid4(), may_begin=lambda _: may_begin)


async def one_of_each_status(ground: Ground, subscription_id: UUID | None = None, variant: str = "main") -> Setting:
    """Deliveries that have an intent for their first attempt; the exhausted one holds its successors."""
    if subscription_id is None:
        subscription_id = await ground.subscribe("CustomerUpdated", URL)
    events = dict(zip(DeliveryStatus, await ground.emit("CustomerUpdated", "{}", len(DeliveryStatus)), strict=True))
    await match_events(ground, list(events.values()))
    made = {}
    for status, event_id in events.items():
        [[made[status]]] = await ground.execute(
            "UPDATE delivery SET status = :status, variant = :variant, holds_group = (:status = 'exhausted') "
            "WHERE event_id = :id AND subscription_id = :subscription RETURNING message_id",
            status=status,
            variant=variant,
            id=event_id,
            subscription=subscription_id,
        )
    return Setting(ground, subscription_id, events, made)


async def changes(ground: Ground, before: Sequence[Any]) -> set[Change]:
    """Return what differs from the rows of before. The reason is None where it was left alone."""
    known = {row.message_id: row for row in before}
    found = set()
    for row in await ground.deliveries():
        old = known.get(row.message_id)
        if old != row:
            same = old is not None and (old.status, old.reason) == (row.status, row.reason)
            reason = None if row.reason is None or same else Reason(row.reason)
            found.add((None if old is None else DeliveryStatus(old.status), DeliveryStatus(row.status), reason))
    return found


Step: TypeAlias = Callable[[AsyncConnection, Setting], Awaitable[Any]]
Function: TypeAlias = Callable[..., Any]


async def applied(ground: Ground, step: Step, **options: Any) -> set[Change]:
    """Run a step over one delivery of each status, return what it changed."""
    setting = await one_of_each_status(ground, **options)
    before = await ground.deliveries()
    async with ground.database.transaction() as connection:
        await step(connection, setting)
    found = await changes(ground, before)
    await ground.clear()
    return found


def outcome(message_id: UUID, status: str, reason: Reason | None) -> Outcome:
    failed = status != DeliveryStatus.DELIVERED
    return Outcome(
        accepted_on=today(),
        message_id=message_id,
        number=1,
        began_seconds_ago=0.5,
        duration_ms=500,
        status_code=500 if failed else 200,
        failure="http_5xx" if failed else None,
        detail=None,
        response_excerpt=None,
        body_sha256=None,
        url=URL,
        status=status,
        reason=reason,
        failures=int(failed),
        next_in_seconds=60.0 if status in (DeliveryStatus.PENDING, DeliveryStatus.HELD) else None,
        workflow_id=None,
    )


def recorded(status: str, reason: Reason | None = None, of: Sequence[DeliveryStatus] = tuple(DeliveryStatus)) -> Step:
    """Write an outcome for the deliveries of these statuses."""
    return lambda connection, setting: transitions.record(
        connection, [outcome(setting.message_ids[one], status, reason) for one in of]
    )


def withdrawn(status: DeliveryStatus, reason: Reason) -> Step:
    return lambda connection, setting: transitions.withdraw(
        connection, [outcome(one, status, reason) for one in setting.message_ids.values()]
    )


def each(act: Callable[[AsyncConnection, UUID], Awaitable[Any]]) -> Step:
    """Run a statement for each delivery by itself."""

    async def step(connection: AsyncConnection, setting: Setting) -> None:
        for message_id in setting.message_ids.values():
            await act(connection, message_id)

    return step


def held_for(reason: Reason) -> Step:
    return each(lambda connection, one: transitions.hold(connection, one, reason, "drain"))


def ended(cause: Cause, status: DeliveryStatus, reason: Reason) -> dict[tuple[Cause, Function], list[Step]]:
    stopped = "status = 'disabled'" if reason is Reason.SUBSCRIPTION_DISABLED else "deleted_at = now()"

    def when_stopped(step: Step) -> Step:
        async def stop_first(connection: AsyncConnection, setting: Setting) -> None:
            await connection.execute(text(f"UPDATE subscription SET {stopped}"))
            await step(connection, setting)

        return stop_first

    async def end_open(connection: AsyncConnection, setting: Setting) -> None:
        await transitions.end_open(connection, setting.subscription_id, status=status, reason=reason)

    return {
        (cause, transitions.end): [
            when_stopped(each(lambda connection, one: transitions.end(connection, one, status, reason)))
        ],
        (cause, transitions.end_open): [end_open],
        (cause, transitions.withdraw): [when_stopped(withdrawn(status, reason))],
    }


def columns_of_events(setting: Setting, **more: Any) -> dict[str, list[Any]]:
    """Columns of one new delivery of an event of the setting."""
    event_id = setting.event_ids[DeliveryStatus.PENDING]
    columns = {"message_id": uuid4(), "event_id": event_id, "event_sequence": 1, "accepted_on": today()} | more
    return {name: [value] for name, value in columns.items()}


async def backfilled(connection: AsyncConnection, setting: Setting) -> None:
    backfill = Backfill(uuid4(), STORE, "CustomerUpdated", setting.subscription_id, URL)
    await transitions.create_backfilled(connection, backfill, columns_of_events(setting, variant="main"))


async def adopted(connection: AsyncConnection, setting: Setting) -> None:
    await transitions.adopt(connection, setting.subscription_id, columns_of_events(setting, ordering_key=None))


async def sent_test(connection: AsyncConnection, setting: Setting) -> None:
    values = {name: value for name, [value] in columns_of_events(setting).items()}
    sequence = values.pop("event_sequence")
    named = {"store_code": STORE, "event_name": "CustomerUpdated", "url": URL, "workflow_id": "test"}
    subscription = {"subscription_id": setting.subscription_id}
    await transitions.create_test(connection, values | named | subscription | {"sequence": sequence})


async def outwaited(connection: AsyncConnection, setting: Setting) -> None:
    opened = "INSERT INTO subscription_health (subscription_id, breaker_opened_at) VALUES (:id, now())"
    await connection.execute(text(opened), {"id": setting.subscription_id})
    await transitions.exhaust_outwaited(connection, setting.subscription_id, 0.0)


async def lines_assigned(connection: AsyncConnection, setting: Setting) -> None:
    await transitions.assign_ordering_keys(
        connection, list(setting.message_ids.values()), range(len(setting.message_ids))
    )


async def recovered(connection: AsyncConnection, setting: Setting) -> None:
    await transitions.recover(
        connection,
        list(setting.message_ids.values()),
        statuses=list(DeliveryStatus),
        subscription_id=setting.subscription_id,
        action_id=uuid4(),
    )


ENDED_BY_RECEIVER = (Reason.HTTP_GONE, Reason.DISABLED_BY_RECEIVER, Reason.ABORTED_BY_RECEIVER)
FINAL = (Reason.SCHEDULE_USED_UP, *ENDED_BY_RECEIVER, Reason.BLOCKED)
NOT_PENDING = (DeliveryStatus.HELD, *TERMINAL)

STEPS: Mapping[tuple[Cause, Function], list[Step]] = {
    (Cause.SEND_TEST, transitions.create_test): [sent_test],
    (Cause.BACKFILL, transitions.create_backfilled): [backfilled],
    (Cause.ADOPT, transitions.adopt): [adopted],
    (Cause.SUCCESS, transitions.record): [recorded(DeliveryStatus.DELIVERED)],
    (Cause.FAILURE, transitions.record): [
        recorded(DeliveryStatus.PENDING),
        # The drain attempts held deliveries only.
        recorded(DeliveryStatus.HELD, Reason.RETRY, NOT_PENDING),
        recorded(DeliveryStatus.HELD, Reason.BREAKER_OPEN, NOT_PENDING),
        # Too many retries fall due together.
        recorded(DeliveryStatus.HELD, Reason.OVERLOAD),
    ],
    (Cause.RETRY, transitions.own_retries): [
        lambda connection, setting: transitions.own_retries(connection, list(setting.message_ids.values()))
    ],
    (Cause.MANUAL_FAILURE, transitions.record): [recorded(UNCHANGED)],
    (Cause.FINAL_FAILURE, transitions.record): [
        *(recorded(DeliveryStatus.EXHAUSTED, reason) for reason in FINAL),
        recorded(DeliveryStatus.EXHAUSTED, Reason.TEST, [DeliveryStatus.PENDING]),
    ],
    (Cause.ERASED_BODY, transitions.record): [recorded(DeliveryStatus.CANCELLED, Reason.EVENT_ERASED)],
    (Cause.SUSPEND, transitions.hold): [
        held_for(reason) for reason in (Reason.SUBSCRIPTION_PAUSED, Reason.BREAKER_OPEN, Reason.LIMITED)
    ],
    (Cause.SUSPEND, transitions.withdraw): [withdrawn(DeliveryStatus.HELD, reason) for reason in HOLD_REASONS],
    (Cause.OUTWAIT, transitions.exhaust_outwaited): [outwaited],
    **ended(Cause.DISABLE, DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED),
    **ended(Cause.DELETE, DeliveryStatus.CANCELLED, Reason.SUBSCRIPTION_DELETED),
    (Cause.ERASE, transitions.cancel_erased): [
        lambda connection, setting: transitions.cancel_erased(connection, STORE, list(setting.event_ids.values()))
    ],
    (Cause.CANCEL, transitions.cancel): [each(transitions.cancel)],
    (Cause.RECOVER, transitions.recover): [recovered],
    (Cause.ASSIGN_ORDER_KEY, transitions.assign_ordering_keys): [lines_assigned],
    (Cause.RELEASE_ORDER, transitions.release_groups): [
        lambda connection, setting: transitions.release_groups(connection, setting.subscription_id)
    ],
}


async def matched(ground: Ground) -> set[Change]:
    """Match one event to subscriptions in every state, and one while the worker takes no more."""
    await ground.subscribe("CustomerUpdated", URL)
    await ground.subscribe("CustomerUpdated", URL, status="paused")
    await ground.subscribe("CustomerUpdated", URL, status="disabled")
    await ground.subscribe("CustomerUpdated", URL, rate_limit_per_second=1)
    failing = await ground.subscribe("CustomerUpdated", URL)
    await ground.execute(
        "INSERT INTO subscription_health (subscription_id, breaker_opened_at) VALUES (:id, now())", id=failing
    )
    await match_events(ground, await ground.emit("CustomerUpdated", "{}"))
    await match_events(ground, await ground.emit("CustomerUpdated", "{}"), may_begin=False)
    return await changes(ground, [])


async def switched_over(ground: Ground) -> set[Change]:
    """Switch over from a legacy subscription with a delivery of each status to a paused one that has all events."""
    legacy = await ground.subscribe("CustomerUpdated", URL, legacy=True)
    twin = await ground.subscribe("CustomerUpdated", URL, status="paused")
    await one_of_each_status(ground, legacy)
    before = await ground.deliveries()
    async with ground.database.transaction() as connection:
        await transitions.cancel_switched_over(connection, legacy, twin)
    return await changes(ground, before)


async def lost(ground: Ground) -> set[Change]:
    """End the tests that have no attempt."""
    await one_of_each_status(ground, variant="test")
    await ground.execute("TRUNCATE attempt")
    before = await ground.deliveries()
    async with ground.database.transaction() as connection:
        await transitions.end_lost_tests(connection, seconds=0.0)
    return await changes(ground, before)


SCENARIOS: Mapping[Cause, Callable[[Ground], Awaitable[set[Change]]]] = {
    Cause.MATCH: matched,
    Cause.SWITCH_OVER: switched_over,
    Cause.LOSE_TEST: lost,
}


@pytest.mark.parametrize("cause", Cause)
async def test_a_cause_changes_deliveries_as_the_table_says(ground: Ground, cause: Cause) -> None:
    found: dict[Function, set[Change]] = {}
    for function in CARRIED_OUT_BY[cause]:
        if cause in SCENARIOS:
            found[function] = await SCENARIOS[cause](ground)
        else:
            found[function] = set().union(*[await applied(ground, step) for step in STEPS[cause, function]])
    rows = [row for row in TRANSITIONS if row.cause is cause]
    expected = {(row.source, row.target, reason) for row in rows for reason in row.reasons or (None,)}
    kept_reason = {(row.source, row.target, None) for row in rows if row.source is row.target}
    assert set().union(*found.values()) - kept_reason == expected - kept_reason
    for function, made in found.items():
        theirs = {(row.source, row.target) for row in rows if function in carried_out_by(row)}
        assert {(source, target) for source, target, _ in made} == theirs, function.__name__


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (DeliveryStatus.EXHAUSTED, Reason.SUBSCRIPTION_DISABLED),
        (DeliveryStatus.CANCELLED, Reason.SUBSCRIPTION_DELETED),
    ],
)
async def test_a_delivery_is_not_ended_for_a_state_that_its_subscription_has_left(
    ground: Ground, status: DeliveryStatus, reason: Reason
) -> None:
    setting = await one_of_each_status(ground)
    before = await ground.deliveries()
    async with ground.database.transaction() as connection:
        for message_id in setting.message_ids.values():
            assert not await transitions.end(connection, message_id, status, reason)
        await withdrawn(status, reason)(connection, setting)
    assert await changes(ground, before) == set()


def test_every_cause_is_carried_out_by_a_function_and_every_function_by_a_cause() -> None:
    assert set(CARRIED_OUT_BY) == {row.cause for row in TRANSITIONS} == set(Cause)
    registered = {function.__name__ for functions in CARRIED_OUT_BY.values() for function in functions}
    written = {
        name
        for name, value in vars(transitions).items()
        if getattr(value, "__module__", "") == transitions.__name__
        and "connection" in getattr(value, "__annotations__", {})
    }
    assert registered == written
