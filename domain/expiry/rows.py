"""Rows of expiring objects as the platform sends them (wire contract, section 5), and the event made of each.

A row is validated from parsed JSON (`jsontext.parse`) under its names on the wire. Ids become UUIDs, instants UTC,
numbers stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias
from uuid import UUID, uuid5

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.events.fields import UUID_TEXT
from domain.timestamps import utc_instant, utc_text
from domain.wire.jsontext import MAX_DIGITS, JsonValue, Number, digits_written_out


class Kind(StrEnum):
    """Kind of expiring object. The values are part of paths, commands, settings and ids."""

    POINTS = "points"
    LEVELS = "levels"
    COUPONS = "coupons"


EVENT_NAMES: Mapping[Kind, str] = {
    Kind.POINTS: "PointsWillExpire",
    Kind.LEVELS: "LevelWillExpire",
    Kind.COUPONS: "CouponWillExpire",
}

MOST_TEXT_CHARACTERS = 1024
"""Maximum length of a text in a row. It leaves the event made of the row far below the size limit of an event."""


def _uuid(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and UUID_TEXT.fullmatch(value):
        return UUID(value)
    raise PydanticCustomError("not_a_uuid", "must be a UUID such as 3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b")


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    instant = utc_instant(value) if isinstance(value, str) else None
    if instant is None:
        raise PydanticCustomError(
            "not_a_date_time",
            "must be a date-time with an offset such as 2026-01-02T03:04:05+01:00, in the years 1 to 9999 of UTC",
        )
    return instant


def storable_points(value: object) -> Decimal | None:
    """Return the value as points, or None unless it is a non-negative number of at most MAX_DIGITS digits."""
    try:
        return _points(value)
    except PydanticCustomError:
        return None


def _points(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("not_a_number", "must be a number")
    points = Decimal(value)
    if points.is_signed() and points:
        raise PydanticCustomError("negative", "must not be negative")
    if not points.is_finite() or digits_written_out(points) > MAX_DIGITS:
        raise PydanticCustomError("too_many_digits", "must be a number of at most 1,000 digits")
    return points


Id = Annotated[UUID, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Points = Annotated[Decimal, BeforeValidator(_points), WithJsonSchema({"type": "number", "minimum": 0})]
Words = Annotated[str, StringConstraints(strict=True, max_length=MOST_TEXT_CHARACTERS)]


class _Row(BaseModel):
    """Fields of every row: five of its member, and the instant of the platform's last write.

    A null counts as an omitted field, except for required fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, defer_build=True)

    customer_email: Words | None = None
    customer_phone: Words | None = None
    customer_loyalty_card_number: Words | None = None
    customer_first_name: Words | None = None
    customer_last_name: Words | None = None
    updated_at: Instant


class PointTransferRow(_Row):
    """A transfer of points to a member. `expiresAt` null: it never expires."""

    transfer_id: Id
    customer_id: Id
    account_id: Id | None = None
    wallet_code: Words | None = None
    points: Points
    remaining_points: Points | None = None
    type: Literal["add", "p2p_add"]
    status: Literal["active", "expired", "cancelled", "blocked"]
    expires_at: Instant | None


class MemberLevelRow(_Row):
    """A member's level, the level that follows, and the instant of recalculation (null: never)."""

    customer_id: Id
    level_id: Id | None = None
    level_name: Words | None = None
    future_level_id: Id | None = None
    future_level_name: Words | None = None
    recalculate_at: Instant | None


class IssuedCouponRow(_Row):
    """A coupon issued to a member. `activeTo` null: it never expires. `code` is a secret."""

    issued_coupon_id: Id
    customer_id: Id
    reward_id: Id | None = None
    code: Words | None = None
    status: Literal["inactive", "active", "expired", "cancelled"]
    used: StrictBool
    active_to: Instant | None


Row: TypeAlias = PointTransferRow | MemberLevelRow | IssuedCouponRow


_MEMBER = (
    *("customer_id", "customer_email", "customer_phone", "customer_loyalty_card_number"),
    *("customer_first_name", "customer_last_name"),
)


def _present(row: Row, *names: str, **renamed: str) -> dict[str, JsonValue]:
    """Return the row's known fields by their names on the wire. An unknown field is omitted, never invented. `renamed`
    are fields that the event names differently: `remaining_units="remaining_points"`."""
    found = {name: getattr(row, field) for name, field in ({name: name for name in names} | renamed).items()}
    return {to_camel(name): _written(value) for name, value in found.items() if value is not None}


def _written(value: UUID | Decimal | datetime | str) -> JsonValue:
    if isinstance(value, Decimal):
        return Number(f"{value:f}")
    return utc_text(value) if isinstance(value, datetime) else str(value)


def event_data(row: Row) -> dict[str, JsonValue]:
    """Return the data to emit for a row that expires: modern fields, and fields of the legacy body alone."""
    match row:
        case PointTransferRow():
            points = {"remaining_units": "remaining_points", "points_will_expire": "expires_at"}
            return _present(row, "account_id", "points", **points) | _present(row, *_MEMBER)
        case MemberLevelRow():
            return _present(row, *_MEMBER, "level_id", "level_name", "future_level_id", "future_level_name")
        case IssuedCouponRow():
            member = {name: f"customer_{name}" for name in ("email", "phone", "loyalty_card_number")}
            return {
                "customer": _present(row, "customer_id", **member),
                "issuedCoupon": _present(row, "code", "active_to"),
                "couponStatus": row.status,
            }


NOTICES = UUID("6d2b6c0e-5a43-4d0f-9f63-0d7c8d1b7a95")
"""Name space of generated event ids. Changing it would send every notice again."""


def notice_id(store_code: str, kind: Kind, identity: UUID, instant: datetime) -> UUID:
    """Return the event id of the notice that this transfer, member's level or coupon expires at this instant.

    The id contains neither the day of the scan nor the number of days ahead, so that every scan gives the same notice.
    A different instant gives a different notice.
    """
    expires = instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return uuid5(NOTICES, f"{store_code}/{kind}/{identity}/{expires}")
