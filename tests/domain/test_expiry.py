"""Event data made of rows: each field from where the contract says, nothing invented, nothing lost."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from domain.events.catalogue import CATALOGUE, validate_data
from domain.expiry.rows import EVENT_NAMES, Kind, event_data
from domain.wire.bodies import EventFacts, legacy_body, modern_data_text
from domain.wire.jsontext import dump, parse
from tests.expiry import MODELS, row, told

ID = UUID("3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b")
kinds = pytest.mark.parametrize("kind", list(Kind))


def modern(kind: Kind, **changes: Any) -> Any:
    return parse(modern_data_text(EVENT_NAMES[kind], dump(event_data(row(kind, **changes)))).encode())


def legacy(kind: Kind, timezone: str = "UTC", **changes: Any) -> Any:
    text = dump(event_data(row(kind, **changes)))
    facts = EventFacts(ID, EVENT_NAMES[kind], "default", "2026-01-01T00:00:00Z", text)
    return parse(legacy_body(facts, "main", timezone))


@kinds
def test_the_data_of_a_row_is_what_its_event_takes(kind: Kind) -> None:
    event_type = CATALOGUE[EVENT_NAMES[kind]]
    assert event_type.scheduled
    assert validate_data(event_type, event_data(row(kind))) == []
    required = {field.alias for field in MODELS[kind].model_fields.values() if field.is_required()}
    bare = MODELS[kind].model_validate({name: value for name, value in told(kind).items() if name in required})
    assert validate_data(event_type, event_data(bare)) == []


def test_points_that_will_expire() -> None:
    one = told(Kind.POINTS, points=Decimal("120.505"), remainingPoints=Decimal("80.50"))
    assert modern(Kind.POINTS, **one) == {
        "accountId": one["accountId"],
        "points": Decimal("120.505"),
        "remainingUnits": Decimal("80.5"),
        "pointsWillExpire": "2026-03-01T12:00:00Z",
    }
    body = legacy(Kind.POINTS, "Europe/Warsaw", **one)
    assert body == {
        "type": "account.expiring_points_notification",
        "data": [
            {
                "customerId": one["customerId"],
                "customerEmail": "member@example.com",
                "customerPhone": "+48500100200",
                "customerLoyaltyCardNumber": "4006381333931",
                "customerFirstName": "Alex",
                "customerLastName": "Example",
                "points": Decimal("120.51"),
                "pointsWillExpire": "2026-03-01T13:00:00+01:00",
            }
        ],
    }


def test_a_level_that_will_expire() -> None:
    one = told(Kind.LEVELS)
    expected = {name: value for name, value in one.items() if name not in ("recalculateAt", "updatedAt")}
    assert modern(Kind.LEVELS, **one) == expected
    assert legacy(Kind.LEVELS, **one) == {"type": "account.expiring_level_notification", "data": [expected]}


def test_a_coupon_that_will_expire() -> None:
    one = told(Kind.COUPONS)
    assert modern(Kind.COUPONS, **one) == {
        "customer": {
            "customerId": one["customerId"],
            "email": "member@example.com",
            "phone": "+48500100200",
            "loyaltyCardNumber": "4006381333931",
        },
        "issuedCoupon": {"code": "SPRING-4F7K", "activeTo": "2026-03-01T12:00:00Z"},
    }
    assert legacy(Kind.COUPONS, **one) == {
        "type": "campaign.coupon_expiration",
        "data": [
            {
                "customerId": one["customerId"],
                "customerEmail": "member@example.com",
                "customerLoyaltyCardNumber": "4006381333931",
                "customerPhone": "+48500100200",
                "coupon": "SPRING-4F7K",
                "couponExpiresAt": 1772366400,
                "couponStatus": "active",
            }
        ],
    }


@kinds
def test_what_is_not_known_is_left_out_of_modern_data_and_null_in_a_legacy_body(kind: Kind) -> None:
    unknown = {
        field.alias: None
        for field in MODELS[kind].model_fields.values()
        if field.alias is not None and not field.is_required()
    }
    assert "null" not in dump(event_data(row(kind, **unknown)))
    [entry] = legacy(kind, **unknown)["data"]
    assert entry["customerEmail"] is None
    assert entry["customerPhone"] is None


def test_numbers_keep_their_digits_and_have_no_exponent() -> None:
    for text in ("12345678901234567890.10", "1E+2", "0.0", "7E-9"):
        data = modern(Kind.POINTS, points=Decimal(text))
        assert data["points"] == Decimal(text)
        assert "E" not in dump(data["points"])


def test_instants_are_written_in_utc_to_the_microsecond() -> None:
    for given, written in (
        ("2026-03-01T23:59:59.999999+05:30", "2026-03-01T18:29:59.999999Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
        ("2026-03-01T00:00:00.5-12:00", "2026-03-01T12:00:00.500000Z"),
    ):
        assert modern(Kind.POINTS, expiresAt=given)["pointsWillExpire"] == written
