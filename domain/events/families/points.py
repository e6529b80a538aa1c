"""Events of members' points (units) and wallets."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated, Literal

from domain.events.event_type import EventType
from domain.events.families.parts import (
    ACTION_CAUSE_SAMPLE,
    CUSTOMER_SAMPLE,
    WALLET_TYPE_SAMPLE,
    ActionCause,
    Customer,
    WalletType,
)
from domain.events.fields import ABSENT, LEGACY_ONLY, Amount, Data, DateTime, Email, Flag, Text, Uuid
from domain.wire.jsontext import Number
from domain.wire.legacy import LegacyForm, local_time, number, text


class Wallet(Data):
    walletId: Text = ABSENT
    walletType: WalletType = ABSENT


class AvailablePointsAmountChanged(Data):
    customer: Customer = ABSENT
    accountId: Uuid = ABSENT
    amount: Amount = ABSENT
    amountChange: Amount = ABSENT
    amountChangeType: Text = ABSENT
    transferId: Uuid = ABSENT
    wallet: Wallet = ABSENT
    actionCause: ActionCause | None = ABSENT


AVAILABLE_POINTS_AMOUNT_CHANGED = EventType(
    name="AvailablePointsAmountChanged",
    description="A member's balance of available points went up or down.",
    model=AvailablePointsAmountChanged,
    seed=True,
    legacy=LegacyForm(
        "account.available_points_amount_changed",
        {
            "customerId": text("customer.customerId"),
            "amount": number("amount"),
            "amount_change": number("amountChange", absolute=True),
            "amount_change_type": text("amountChangeType"),
        },
    ),
    sample={
        "customer": CUSTOMER_SAMPLE,
        "accountId": "2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708",
        "amount": Number("180.50"),
        "amountChange": 80,
        "amountChangeType": "add",
        "transferId": "e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a",
        "wallet": {"walletId": "3c4d5e6f-7081-4923-a4b5-c6d7e8f90112", "walletType": WALLET_TYPE_SAMPLE},
        "actionCause": ACTION_CAUSE_SAMPLE,
    },
)


class PointsWillExpire(Data):
    accountId: Uuid = ABSENT
    points: Amount = ABSENT
    remainingUnits: Amount = ABSENT
    pointsWillExpire: DateTime = ABSENT
    customerId: Annotated[Uuid, LEGACY_ONLY] = ABSENT
    customerEmail: Annotated[Email, LEGACY_ONLY] = ABSENT
    customerPhone: Annotated[Text, LEGACY_ONLY] = ABSENT
    customerLoyaltyCardNumber: Annotated[Text, LEGACY_ONLY] = ABSENT
    customerFirstName: Annotated[Text, LEGACY_ONLY] = ABSENT
    customerLastName: Annotated[Text, LEGACY_ONLY] = ABSENT


POINTS_WILL_EXPIRE = EventType(
    name="PointsWillExpire",
    description="Points of a member expire on a day soon to come.",
    model=PointsWillExpire,
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "account.expiring_points_notification",
        [
            {
                "customerId": text("customerId"),
                "customerEmail": text("customerEmail"),
                "customerPhone": text("customerPhone"),
                "customerLoyaltyCardNumber": text("customerLoyaltyCardNumber"),
                "customerFirstName": text("customerFirstName"),
                "customerLastName": text("customerLastName"),
                "points": number("points", decimals=2),
                "pointsWillExpire": local_time("pointsWillExpire"),
            }
        ],
    ),
    sample={
        "accountId": "2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708",
        "points": Number("120.505"),
        "remainingUnits": Number("80.25"),
        "pointsWillExpire": "2026-01-12T23:59:59+01:00",
        "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
        "customerEmail": "member@example.com",
        "customerPhone": "+48500100200",
        "customerLoyaltyCardNumber": "4006381333931",
        "customerFirstName": "Alex",
        "customerLastName": "Example",
    },
)


class TransferWallet(Data):
    walletId: Uuid = ABSENT
    walletType: WalletType = ABSENT


class UnitsTransferWasAdded(Data):
    member: Customer = ABSENT
    wallet: TransferWallet = ABSENT
    createdAt: DateTime = ABSENT
    expiresAt: DateTime = ABSENT
    units: Amount = ABSENT
    comment: Text = ABSENT
    type: Literal["adding", "spending", "p2p_adding", "p2p_spending", "blocked", "expired"] = ABSENT
    pending: Flag = ABSENT
    lockedUntil: DateTime = ABSENT
    transferId: Uuid = ABSENT
    relatedTransferId: Uuid = ABSENT
    actionCause: ActionCause | None = ABSENT


UNITS_TRANSFER_WAS_ADDED = EventType(
    name="UnitsTransferWasAdded",
    description="A transfer of units was booked on a member's wallet.",
    model=UnitsTransferWasAdded,
    sample={
        "member": CUSTOMER_SAMPLE,
        "wallet": {"walletId": "3c4d5e6f-7081-4923-a4b5-c6d7e8f90112", "walletType": WALLET_TYPE_SAMPLE},
        "createdAt": "2026-01-02T14:05:09+01:00",
        "expiresAt": "2027-01-02T23:59:59+01:00",
        "units": Number("80.50"),
        "comment": "Purchase R-2026-000123",
        "type": "adding",
        "pending": True,
        "lockedUntil": "2026-01-16T00:00:00+01:00",
        "transferId": "e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a",
        "relatedTransferId": "f9e8d7c6-b5a4-4392-8817-605f4e3d2c1b",
        "actionCause": ACTION_CAUSE_SAMPLE,
    },
)
