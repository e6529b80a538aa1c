"""Derive expiry rows from events of the platform (docs/expiring.md lists the facts that events do not contain).

Pure and total: any event data gives a result that can be stored, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias, get_args
from uuid import UUID

from domain.events.fields import UUID_TEXT
from domain.expiry.rows import MOST_TEXT_CHARACTERS, IssuedCouponRow, Kind, storable_points
from domain.timestamps import utc_instant
from domain.wire.excerpts import MASK
from domain.wire.jsontext import JsonValue
from domain.wire.legacy import find

NAMED_ONLY = datetime(1970, 1, 1, tzinfo=UTC)
"""`updated_at` of a transfer known only from an event that names it: older than any event that adds the transfer."""

TRANSFER_TYPES: Mapping[str, str] = {"adding": "add", "p2p_adding": "p2p_add"}
AVAILABLE = frozenset({"add", "p2p_add"})
"""Values of `amountChangeType` for which points became available."""

CANCELLED = frozenset({"cancelled", "canceled", "rejected", "returned"})
USED = frozenset({"redeemed", "used"})
EXPIRED = frozenset({"expired"})
"""Values of `newStatus` in lower case. All others, such as `shipped`, do not concern the coupon."""

COUPON_STATUSES = frozenset(get_args(IssuedCouponRow.model_fields["status"].annotation))


@dataclass(frozen=True, slots=True)
class Member:
    """Fields of the member in an event; None for a field that is missing."""

    email: str | None = None
    phone: str | None = None
    loyalty_card_number: str | None = None
    first_name: str | None = None
    last_name: str | None = None


@dataclass(frozen=True, slots=True)
class TransferTold:
    """Event of a transfer at `told_at`: it was added (`added_at`), or its points became available (`added_at` None)."""

    identity: UUID
    customer_id: UUID
    account_id: UUID | None
    wallet_code: str | None
    points: Decimal
    type: str
    status: str
    expires_at: datetime | None
    member: Member
    told_at: datetime
    added_at: datetime | None


@dataclass(frozen=True, slots=True)
class LevelTold:
    """Level of a member from `told_at` on. `level_id` None: no level, or a level without a UUID."""

    identity: UUID
    level_id: UUID | None
    level_name: str | None
    told_at: datetime


@dataclass(frozen=True, slots=True)
class CouponTold:
    """State of a coupon in an event. `status` active and `used` False do not change a stored coupon.

    `whole`: the event has enough facts for a row.
    """

    identity: UUID
    customer_id: UUID
    reward_id: UUID | None
    code: str | None
    status: str
    used: bool
    active_to: datetime | None
    member: Member
    told_at: datetime
    whole: bool


Told: TypeAlias = TransferTold | LevelTold | CouponTold


def told_by(name: str, data: JsonValue, created_at: datetime) -> Told | None:
    """Return the expiry facts of an event, or None. `data` includes the secrets; a masked code counts as unknown."""
    entry = _READERS.get(name)
    return None if entry is None else entry[1](data, created_at)


def kind_told(name: str) -> Kind | None:
    """Return the kind of rows that an event of this name may concern, or None."""
    entry = _READERS.get(name)
    return None if entry is None else entry[0]


def _transfer_added(data: JsonValue, created_at: datetime) -> TransferTold | None:
    type_ = TRANSFER_TYPES.get(_text(data, "type") or "")
    identity, customer_id = _id(data, "transferId"), _id(data, "member.customerId")
    points = storable_points(_at(data, "units"))
    if type_ is None or identity is None or customer_id is None or points is None:
        return None
    added_at = min(_instant(data, "createdAt") or created_at, created_at)
    return TransferTold(
        identity=identity,
        customer_id=customer_id,
        account_id=None,
        wallet_code=_text(data, "wallet.walletType.code"),
        points=points,
        type=type_,
        status="blocked" if _at(data, "pending") is True else "active",
        expires_at=_instant(data, "expiresAt"),
        member=_member(data, "member"),
        told_at=created_at,
        added_at=max(added_at, NAMED_ONLY + timedelta(microseconds=1)),
    )


def _transfer_available(data: JsonValue, created_at: datetime) -> TransferTold | None:
    type_ = _text(data, "amountChangeType")
    identity, customer_id = _id(data, "transferId"), _id(data, "customer.customerId")
    points = storable_points(_at(data, "amountChange"))
    if type_ not in AVAILABLE or identity is None or customer_id is None or points is None:
        return None
    return TransferTold(
        identity=identity,
        customer_id=customer_id,
        account_id=_id(data, "accountId"),
        wallet_code=_text(data, "wallet.walletType.code"),
        points=points,
        type=type_,
        status="active",
        expires_at=None,
        member=_member(data, "customer"),
        told_at=created_at,
        added_at=None,
    )


def _level_changed(data: JsonValue, created_at: datetime) -> LevelTold | None:
    identity = _id(data, "customer.customerId")
    if identity is None:
        return None
    return LevelTold(identity, _id(data, "level.levelId"), _text(data, "level.name"), created_at)


def _reward_bought(data: JsonValue, created_at: datetime) -> CouponTold | None:
    identity, customer_id = _id(data, "rewardRedemption.redeemedRewardId"), _id(data, "customer.customerId")
    if identity is None or customer_id is None or not isinstance(_at(data, "coupon"), dict):
        return None
    status = _text(data, "coupon.status") or ""
    return CouponTold(
        identity=identity,
        customer_id=customer_id,
        reward_id=_id(data, "reward.rewardId"),
        code=_code(data, "coupon.code"),
        status=status if status in COUPON_STATUSES else "active",
        used=_instant(data, "coupon.usedAt") is not None,
        active_to=_instant(data, "coupon.activeTo"),
        member=_member(data, "customer"),
        told_at=created_at,
        whole=True,
    )


def _redemption_changed(data: JsonValue, created_at: datetime) -> CouponTold | None:
    identity, customer_id = _id(data, "issuedReward.issuedRewardId"), _id(data, "issuedReward.customerId")
    if identity is None or customer_id is None:
        return None
    status = (_text(data, "newStatus") or "").lower()
    return CouponTold(
        identity=identity,
        customer_id=customer_id,
        reward_id=_id(data, "issuedReward.rewardId"),
        code=_code(data, "issuedReward.issuedCoupon.code"),
        status="cancelled" if status in CANCELLED else "expired" if status in EXPIRED else "active",
        used=status in USED,
        active_to=_instant(data, "issuedReward.issuedCoupon.activeTo"),
        member=_member(data, "issuedReward.customerData", "firstName", "lastName"),
        told_at=created_at,
        whole=isinstance(_at(data, "issuedReward.issuedCoupon"), dict),
    )


_Reader: TypeAlias = Callable[[JsonValue, datetime], Told | None]
_READERS: Mapping[str, tuple[Kind, _Reader]] = {
    "UnitsTransferWasAdded": (Kind.POINTS, _transfer_added),
    "AvailablePointsAmountChanged": (Kind.POINTS, _transfer_available),
    "CustomerLevelChanged": (Kind.LEVELS, _level_changed),
    "CustomerBoughtReward": (Kind.COUPONS, _reward_bought),
    "RewardRedemptionStatusChanged": (Kind.COUPONS, _redemption_changed),
}


def _at(data: JsonValue, path: str) -> JsonValue:
    return find(data, path.split("."))


def _text(data: JsonValue, path: str) -> str | None:
    value = _at(data, path)
    return value if isinstance(value, str) and len(value) <= MOST_TEXT_CHARACTERS else None


def _code(data: JsonValue, path: str) -> str | None:
    """Return the code at the path, or None if it is missing or masked."""
    code = _text(data, path)
    return None if code == MASK else code


def _id(data: JsonValue, path: str) -> UUID | None:
    value = _at(data, path)
    return UUID(value) if isinstance(value, str) and UUID_TEXT.fullmatch(value) else None


def _instant(data: JsonValue, path: str) -> datetime | None:
    value = _at(data, path)
    return utc_instant(value) if isinstance(value, str) else None


def _member(data: JsonValue, path: str, *names: str) -> Member:
    return Member(*(_text(data, f"{path}.{field}") for field in ("email", "phone", "loyaltyCardNumber", *names)))
