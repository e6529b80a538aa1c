"""Models that several events share, each with its sample, from which the events' samples are composed."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated, Literal

from domain.events.fields import ABSENT, SECRET, Amount, Data, DateTime, Email, Flag, Free, Integer, Text, Uuid
from domain.wire.jsontext import JsonValue, Number
from domain.wire.legacy import Shape, text


class Customer(Data):
    customerId: Uuid = ABSENT
    email: Email = ABSENT
    phone: Text = ABSENT
    loyaltyCardNumber: Text = ABSENT


CUSTOMER_SAMPLE: dict[str, JsonValue] = {
    "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
    "email": "member@example.com",
    "phone": "+48500100200",
    "loyaltyCardNumber": "4006381333931",
}


class Address(Data):
    street: Text = ABSENT
    address1: Text = ABSENT
    address2: Text = ABSENT
    postal: Text = ABSENT
    city: Text = ABSENT
    province: Text = ABSENT
    country: Text = ABSENT


LEGACY_ADDRESS_KEYS = ("street", "address1", "address2", "postal", "city", "province", "country")

ADDRESS_SAMPLE: dict[str, JsonValue] = {
    "street": "Main Street",
    "address1": "12",
    "address2": "3a",
    "postal": "50-001",
    "city": "Wrocław",
    "province": "Dolnośląskie",
    "country": "PL",
}


def legacy_address(path: str) -> Shape:
    """Return the seven keys of a legacy address, taken from the address at `path`."""
    return {key: text(f"{path}.{key}") for key in LEGACY_ADDRESS_KEYS}


class Label(Data):
    key: Text = ABSENT
    value: Free = ABSENT


class ActivationCode(Data):
    """Data of every event that hands a member a code."""

    customer: Customer = ABSENT
    code: Annotated[Text, SECRET] = ABSENT
    codeNumber: Annotated[Integer, SECRET] = ABSENT


ACTIVATION_CODE_SAMPLE: dict[str, JsonValue] = {"customer": CUSTOMER_SAMPLE, "code": "K7Q2M9", "codeNumber": 482913}

TimeUnit = Literal["calendarHours", "calendarDays", "calendarWeeks", "calendarMonths", "calendarYears"]


class Interval(Data):
    type: TimeUnit = ABSENT
    value: Integer = ABSENT


class AmountPerInterval(Data):
    interval: Interval = ABSENT
    value: Amount = ABSENT


class WalletLimits(Data):
    points: AmountPerInterval = ABSENT
    pointsPerMember: AmountPerInterval = ABSENT


class WalletType(Data):
    name: Text = ABSENT
    walletTypeId: Uuid = ABSENT
    code: Text = ABSENT
    unitSingularName: Text = ABSENT
    unitPluralName: Text = ABSENT
    active: Flag = ABSENT
    isDefault: Flag = ABSENT
    createdAt: DateTime = ABSENT
    limits: WalletLimits = ABSENT
    allowNegativeBalance: Flag = ABSENT


WALLET_TYPE_SAMPLE: dict[str, JsonValue] = {
    "name": "Points",
    "walletTypeId": "5b8e1d3c-7a29-4c60-9e14-d2f0a6b3c581",
    "code": "default",
    "unitSingularName": "point",
    "unitPluralName": "points",
    "active": True,
    "isDefault": True,
    "createdAt": "2025-01-15T09:00:00+01:00",
    "limits": {
        "points": {"interval": {"type": "calendarDays", "value": 1}, "value": 1000},
        "pointsPerMember": {"interval": {"type": "calendarMonths", "value": 1}, "value": Number("250.5")},
    },
    "allowNegativeBalance": False,
}


class ActionCause(Data):
    campaignId: Uuid | None = ABSENT
    customerId: Uuid | None = ABSENT
    transactionId: Uuid | None = ABSENT
    customEventId: Uuid | None = ABSENT
    internalEventName: Text | None = ABSENT
    performedAt: DateTime | None = ABSENT


ACTION_CAUSE_SAMPLE: dict[str, JsonValue] = {
    "campaignId": "c4a7e2d1-58b3-4f96-8d0e-71f2b3a4c5d6",
    "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
    "transactionId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b",
    "customEventId": None,
    "internalEventName": None,
    "performedAt": "2026-01-02T14:05:09+01:00",
}


class Name(Data):
    name: Text = ABSENT
    description: Text = ABSENT


class Translations(Data):
    en: Name = ABSENT
    pl: Name = ABSENT
