"""Which subscriptions an event goes to, to the microsecond, and how each delivery begins."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from domain.delivery.matching import Mismatch, beginning, mismatch

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("accepted_at", "created_at", "active_from", "expected"),
    [
        pytest.param(NOW, NOW, None, None, id="accepted at the very instant of subscribing"),
        pytest.param(NOW + INSTANT, NOW, None, None, id="accepted later"),
        pytest.param(NOW - INSTANT, NOW, None, Mismatch.CREATED_AFTER, id="accepted an instant earlier"),
        pytest.param(NOW, NOW - timedelta(days=9), None, None, id="created before, accepted after"),
        pytest.param(NOW - INSTANT, NOW + timedelta(days=9), None, Mismatch.CREATED_AFTER, id="created in the future"),
        pytest.param(NOW, NOW, NOW, None, id="created at active_from"),
        pytest.param(NOW, NOW - INSTANT, NOW, Mismatch.NOT_YET_ACTIVE, id="created an instant before active_from"),
        pytest.param(NOW, NOW, NOW - timedelta(days=9), None, id="active_from long ago"),
        pytest.param(NOW, NOW + timedelta(days=9), NOW + timedelta(days=9), None, id="both in the future"),
        pytest.param(
            NOW - INSTANT, NOW, NOW + INSTANT, Mismatch.CREATED_AFTER, id="of two reasons the one nothing can change"
        ),
        pytest.param(
            NOW, NOW.astimezone(timezone(timedelta(hours=14))), NOW, None, id="offsets do not matter, instants do"
        ),
    ],
)
def test_the_table_of_instants(
    accepted_at: datetime, created_at: datetime, active_from: datetime | None, expected: Mismatch | None
) -> None:
    found = mismatch(accepted_at=accepted_at, created_at=created_at, subscribed_at=NOW, active_from=active_from)
    assert found == expected


STATES = [
    {"status": status.value, "breaker_open": breaker_open, "drain_only": drain_only}
    for status in SubscriptionStatus
    for breaker_open in (False, True)
    for drain_only in (False, True)
]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_every_state_of_a_subscription_has_a_beginning_that_says_why_it_does_not_begin(state: dict[str, Any]) -> None:
    begins = beginning(**state)
    assert begins.status in set(DeliveryStatus)
    assert (begins.reason is None) == (begins.status == "pending")


@pytest.mark.parametrize(
    ("status", "breaker_open", "drain_only", "expected"),
    [
        pytest.param("active", False, False, ("pending", None), id="well"),
        pytest.param("active", True, False, ("held", "breaker_open"), id="unwell"),
        pytest.param("active", False, True, ("held", "limited"), id="limited or ordered"),
        pytest.param("paused", True, True, ("held", "subscription_paused"), id="paused"),
        pytest.param("disabled", True, True, ("exhausted", "subscription_disabled"), id="disabled"),
    ],
)
def test_the_table_of_beginnings(
    status: str, breaker_open: bool, drain_only: bool, expected: tuple[str, str | None]
) -> None:
    begins = beginning(status=status, breaker_open=breaker_open, drain_only=drain_only)
    assert (begins.status, begins.reason) == expected
