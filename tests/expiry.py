"""Expiry rows as the platform tells them, by the names on the wire, and as the domain holds them."""

from typing import Any
from uuid import uuid4

from domain.expiry.rows import IssuedCouponRow, Kind, MemberLevelRow, PointTransferRow, Row

MEMBER: dict[str, Any] = {
    "customerEmail": "member@example.com",
    "customerPhone": "+48500100200",
    "customerLoyaltyCardNumber": "4006381333931",
    "customerFirstName": "Alex",
    "customerLastName": "Example",
    "updatedAt": "2026-01-02T03:04:05Z",
}


def transfer(**changes: Any) -> dict[str, Any]:
    """An active transfer of points; `changes` by the names on the wire."""
    return {
        "transferId": str(uuid4()),
        "customerId": str(uuid4()),
        "accountId": str(uuid4()),
        "walletCode": "default",
        "points": 120,
        "remainingPoints": 80,
        "type": "add",
        "status": "active",
        "expiresAt": "2026-03-01T12:00:00Z",
        **MEMBER,
        **changes,
    }


def level(**changes: Any) -> dict[str, Any]:
    """A level that another will follow."""
    return {
        "customerId": str(uuid4()),
        "levelId": str(uuid4()),
        "levelName": "Gold",
        "futureLevelId": str(uuid4()),
        "futureLevelName": "Silver",
        "recalculateAt": "2026-03-01T12:00:00Z",
        **MEMBER,
        **changes,
    }


def coupon(**changes: Any) -> dict[str, Any]:
    """An active unused coupon."""
    return {
        "issuedCouponId": str(uuid4()),
        "customerId": str(uuid4()),
        "rewardId": str(uuid4()),
        "code": "SPRING-4F7K",
        "status": "active",
        "used": False,
        "activeTo": "2026-03-01T12:00:00Z",
        **MEMBER,
        **changes,
    }


MAKERS = {Kind.POINTS: transfer, Kind.LEVELS: level, Kind.COUPONS: coupon}
MODELS: dict[Kind, type[Row]] = {
    Kind.POINTS: PointTransferRow,
    Kind.LEVELS: MemberLevelRow,
    Kind.COUPONS: IssuedCouponRow,
}
INSTANTS = {Kind.POINTS: "expiresAt", Kind.LEVELS: "recalculateAt", Kind.COUPONS: "activeTo"}
IDENTITIES = {Kind.POINTS: "transferId", Kind.LEVELS: "customerId", Kind.COUPONS: "issuedCouponId"}


def told(kind: Kind, **changes: Any) -> dict[str, Any]:
    """A row of that kind that expires."""
    return MAKERS[kind](**changes)


def row(kind: Kind, **changes: Any) -> Row:
    """The same, validated."""
    return MODELS[kind].model_validate(told(kind, **changes))
