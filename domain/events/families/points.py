"""Events of members' points (units) and wallets."""

from typing import Annotated, Literal

from domain.events.event_type import event
from domain.events.families.parts import LEGACY_CUSTOMER, LEGACY_MEMBER, Customer, Interval
from domain.events.fields import ABSENT, LEGACY_ONLY, Amount, Data, DateTime, Email, Flag, Text, Uuid, sample
from domain.wire.jsontext import Number
from domain.wire.legacy import LegacyForm, local_time, number, text


class AmountPerInterval(Data):
    interval: Interval = ABSENT
    value: Amount = sample(1000)


class WalletLimits(Data):
    points: AmountPerInterval = ABSENT
    pointsPerMember: AmountPerInterval = sample(
        {"interval": {"type": "calendarMonths", "value": 1}, "value": Number("250.5")}
    )


class WalletType(Data):
    name: Text = sample("Points")
    walletTypeId: Uuid = sample("5b8e1d3c-7a29-4c60-9e14-d2f0a6b3c581")
    code: Text = sample("default")
    unitSingularName: Text = sample("point")
    unitPluralName: Text = sample("points")
    active: Flag = sample(True)
    isDefault: Flag = sample(True)
    createdAt: DateTime = sample("2025-01-15T09:00:00+01:00")
    limits: WalletLimits = ABSENT
    allowNegativeBalance: Flag = sample(False)


class Wallet(Data):
    walletId: Text = sample("3c4d5e6f-7081-4923-a4b5-c6d7e8f90112")
    walletType: WalletType = ABSENT


class TransferWallet(Data):
    walletId: Uuid = sample("3c4d5e6f-7081-4923-a4b5-c6d7e8f90112")
    walletType: WalletType = ABSENT


class ActionCause(Data):
    campaignId: Uuid | None = sample("c4a7e2d1-58b3-4f96-8d0e-71f2b3a4c5d6")
    customerId: Uuid | None = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    transactionId: Uuid | None = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    customEventId: Uuid | None = sample(None)
    internalEventName: Text | None = sample(None)
    performedAt: DateTime | None = sample("2026-01-02T14:05:09+01:00")


@event(
    "A member's balance of available points went up or down.",
    seed=True,
    legacy=LegacyForm(
        "account.available_points_amount_changed",
        {
            **LEGACY_CUSTOMER,
            "amount": number("amount"),
            "amount_change": number("amountChange", absolute=True),
            "amount_change_type": text("amountChangeType"),
        },
    ),
)
class AvailablePointsAmountChanged(Data):
    customer: Customer = ABSENT
    accountId: Uuid = sample("2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708")
    amount: Amount = sample(Number("180.50"))
    amountChange: Amount = sample(80)
    amountChangeType: Text = sample("add")
    transferId: Uuid = sample("e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a")
    wallet: Wallet = ABSENT
    actionCause: ActionCause | None = ABSENT


@event(
    "Points of a member expire on a day soon to come.",
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "account.expiring_points_notification",
        [{**LEGACY_MEMBER, "points": number("points", decimals=2), "pointsWillExpire": local_time("pointsWillExpire")}],
    ),
)
class PointsWillExpire(Data):
    accountId: Uuid = sample("2a3b4c5d-6e7f-4809-91a2-b3c4d5e6f708")
    points: Amount = sample(Number("120.505"))
    remainingUnits: Amount = sample(Number("80.25"))
    pointsWillExpire: DateTime = sample("2026-01-12T23:59:59+01:00")
    customerId: Annotated[Uuid, LEGACY_ONLY] = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    customerEmail: Annotated[Email, LEGACY_ONLY] = sample("member@example.com")
    customerPhone: Annotated[Text, LEGACY_ONLY] = sample("+48500100200")
    customerLoyaltyCardNumber: Annotated[Text, LEGACY_ONLY] = sample("4006381333931")
    customerFirstName: Annotated[Text, LEGACY_ONLY] = sample("Alex")
    customerLastName: Annotated[Text, LEGACY_ONLY] = sample("Example")


@event("A transfer of units was booked on a member's wallet.")
class UnitsTransferWasAdded(Data):
    member: Customer = ABSENT
    wallet: TransferWallet = ABSENT
    createdAt: DateTime = sample("2026-01-02T14:05:09+01:00")
    expiresAt: DateTime = sample("2027-01-02T23:59:59+01:00")
    units: Amount = sample(Number("80.50"))
    comment: Text = sample("Purchase R-2026-000123")
    type: Literal["adding", "spending", "p2p_adding", "p2p_spending", "blocked", "expired"] = sample("adding")
    pending: Flag = sample(True)
    lockedUntil: DateTime = sample("2026-01-16T00:00:00+01:00")
    transferId: Uuid = sample("e8d7c6b5-a493-4281-9706-5f4e3d2c1b0a")
    relatedTransferId: Uuid = sample("f9e8d7c6-b5a4-4392-8817-605f4e3d2c1b")
    actionCause: ActionCause | None = ABSENT
