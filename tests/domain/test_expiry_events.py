"""What events tell about what expires: only what they say, never more, whatever they hold."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events.catalogue import CATALOGUE
from domain.expiry.from_events import CouponTold, LevelTold, TransferTold, kind_told, told_by
from domain.wire.jsontext import JsonValue, Number

AT = datetime(2026, 1, 5, tzinfo=UTC)
TELLING = [name for name in CATALOGUE if kind_told(name) is not None]


def sample(name: str, **changes: Any) -> dict[str, Any]:
    """The catalogue's sample, with some values replaced by dotted path; `...` takes one out."""
    data: Any = CATALOGUE[name].sample
    for path, value in changes.items():
        data = replaced(data, path.split("__"), value)
    return dict(data)


def replaced(data: Any, steps: list[str], value: Any) -> Any:
    if not steps:
        return value
    rest = {key: member for key, member in data.items() if key != steps[0]}
    if len(steps) == 1 and value is ...:
        return rest
    return {**data, steps[0]: replaced(data.get(steps[0], {}), steps[1:], value)}


def test_five_events_tell_of_what_expires() -> None:
    assert sorted(TELLING) == [
        "AvailablePointsAmountChanged",
        "CustomerBoughtReward",
        "CustomerLevelChanged",
        "RewardRedemptionStatusChanged",
        "UnitsTransferWasAdded",
    ]


def test_a_transfer_that_was_added_is_known_from_its_own_instant_on() -> None:
    told = told_by("UnitsTransferWasAdded", sample("UnitsTransferWasAdded", pending=False), AT)
    assert isinstance(told, TransferTold)
    assert (told.points, told.type, told.status) == (Number("80.50"), "add", "active")
    assert told.expires_at == datetime(2027, 1, 2, 22, 59, 59, tzinfo=UTC)
    assert told.added_at == datetime(2026, 1, 2, 13, 5, 9, tzinfo=UTC)
    assert (told.account_id, told.wallet_code, told.member.email) == (None, "default", "member@example.com")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"pending": True}, "blocked"),
        ({"pending": ...}, "active"),
        ({"type": "p2p_adding", "pending": False}, "active"),
    ],
)
def test_pending_points_do_not_expire_yet(changes: dict[str, Any], status: str) -> None:
    told = told_by("UnitsTransferWasAdded", sample("UnitsTransferWasAdded", **changes), AT)
    assert isinstance(told, TransferTold)
    assert told.status == status


@pytest.mark.parametrize(
    "changes",
    [
        *({"type": type_} for type_ in ("spending", "p2p_spending", "blocked", "expired", ...)),
        {"transferId": ...},
        {"member": ...},
        {"units": ...},
        {"units": -1},
    ],
    ids=str,
)
def test_a_transfer_that_adds_nothing_tells_nothing(changes: dict[str, Any]) -> None:
    assert told_by("UnitsTransferWasAdded", sample("UnitsTransferWasAdded", **changes), AT) is None


def test_available_points_tell_the_account_of_the_transfer_they_name() -> None:
    told = told_by("AvailablePointsAmountChanged", sample("AvailablePointsAmountChanged"), AT)
    assert isinstance(told, TransferTold)
    assert told.added_at is None
    assert told.account_id == UUID("2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708")
    for changes in ({"amountChangeType": "subtract"}, {"transferId": ...}):
        assert told_by("AvailablePointsAmountChanged", sample("AvailablePointsAmountChanged", **changes), AT) is None


@pytest.mark.parametrize("level", ["", ..., "gold", None])
def test_a_level_without_a_uuid_is_none(level: Any) -> None:
    told = told_by("CustomerLevelChanged", sample("CustomerLevelChanged", level__levelId=level), AT)
    assert isinstance(told, LevelTold)
    assert told.level_id is None


def test_a_bought_reward_brings_its_coupon() -> None:
    told = told_by("CustomerBoughtReward", sample("CustomerBoughtReward", coupon__usedAt=...), AT)
    assert isinstance(told, CouponTold)
    assert (told.code, told.status, told.used, told.whole) == ("COFFEE-9XQ2", "active", False, True)
    assert told.identity == UUID("e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807")
    assert told.active_to == datetime(2026, 3, 2, 22, 59, 59, tzinfo=UTC)
    assert told_by("CustomerBoughtReward", sample("CustomerBoughtReward", coupon=...), AT) is None
    assert told_by("CustomerBoughtReward", sample("CustomerBoughtReward", rewardRedemption=...), AT) is None


REDEMPTIONS: Mapping[str, tuple[str, bool]] = {
    "shipped": ("active", False),
    "issued": ("active", False),
    "Redeemed": ("active", True),
    "used": ("active", True),
    "canceled": ("cancelled", False),
    "cancelled": ("cancelled", False),
    "expired": ("expired", False),
}


@pytest.mark.parametrize("status", REDEMPTIONS)
def test_a_redemption_tells_of_its_coupon_what_its_status_means(status: str) -> None:
    told = told_by("RewardRedemptionStatusChanged", sample("RewardRedemptionStatusChanged", newStatus=status), AT)
    assert isinstance(told, CouponTold)
    assert (told.status, told.used) == REDEMPTIONS[status]
    assert told.member.first_name == "Alex"


def test_a_masked_code_is_no_code() -> None:
    told = told_by("CustomerBoughtReward", sample("CustomerBoughtReward", coupon__code="•••"), AT)
    assert isinstance(told, CouponTold)
    assert told.code is None


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False).map(lambda value: Number(str(value)) if value.is_finite() else 0)
    | st.text(max_size=40)
    | st.sampled_from(
        ["adding", "add", "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70", "2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("name", TELLING)
@given(data=st.data())
def test_whatever_stands_in_a_field_an_event_tells_something_or_nothing(name: str, data: st.DataObject) -> None:
    value: JsonValue = CATALOGUE[name].sample
    for path in data.draw(st.lists(st.sampled_from(paths(value)), max_size=4)):
        if all(step in inner for inner, step in along(value, path)):
            value = replaced(value, list(path), data.draw(ANYTHING))
    told_by(name, value, AT)
    told_by(name, data.draw(ANYTHING), AT)


def paths(value: JsonValue) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return []
    return [(key, *rest) for key, member in value.items() for rest in [(), *paths(member)]]


def along(value: Any, path: tuple[str, ...]) -> list[tuple[Any, str]]:
    places = []
    for step in path:
        value = value if isinstance(value, dict) else {}
        places.append((value, step))
        value = value.get(step)
    return places
