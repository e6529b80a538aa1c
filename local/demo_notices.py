"""The demo's three scheduled events: a row of each kind that expires on the day due today, and its notice."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.expiry.calendar_days import day_start, local_day
from domain.expiry.notices import notice_id
from domain.expiry.rows import EVENT_NAMES, Kind
from domain.timestamps import utc_text, zone

MEMBER = {
    "customerEmail": "member@example.com",
    "customerPhone": "+48500100200",
    "customerLoyaltyCardNumber": "4006381333931",
    "customerFirstName": "Alex",
    "customerLastName": "Example",
}
_ROWS: dict[Kind, tuple[str, dict[str, Any]]] = {
    Kind.POINTS: (
        "pointTransfer",
        {"points": 120, "remainingPoints": 80, "type": "add", "status": "active", "walletCode": "default"},
    ),
    Kind.LEVELS: ("memberLevel", {"levelName": "Gold", "futureLevelName": "Silver"}),
    Kind.COUPONS: ("issuedCoupon", {"code": "SPRING-4F7K", "status": "active", "used": False}),
}
_IDS: dict[Kind, tuple[str, ...]] = {
    Kind.POINTS: ("customerId", "accountId"),
    Kind.LEVELS: ("levelId", "futureLevelId"),
    Kind.COUPONS: ("customerId", "rewardId"),
}
_INSTANTS = {Kind.POINTS: "expiresAt", Kind.LEVELS: "recalculateAt", Kind.COUPONS: "activeTo"}
_SETTINGS = {
    Kind.POINTS: "expirePointsNotificationDays",
    Kind.LEVELS: "expireLevelsNotificationDays",
    Kind.COUPONS: "expireCouponsNotificationDays",
}


@dataclass(frozen=True)
class DemoNotice:
    """A row to tell of, and the event that the scan of its day will make."""

    kind: Kind
    identity: UUID
    row: dict[str, Any]
    """Body of the PUT."""
    event_id: UUID


def demo_notices(store: str, settings: dict[str, Any]) -> dict[str, DemoNotice]:
    """One for each scheduled event, by its name; `settings` are the store's, as the API answers them."""
    now = datetime.now(UTC)
    place = zone(settings["timezone"])
    notices = {}
    for kind in Kind:
        day = local_day(now, place) + timedelta(days=settings[_SETTINGS[kind]])
        instant = day_start(day, place) + timedelta(hours=12)
        identity = uuid4()
        wrapper, fields = _ROWS[kind]
        row = {
            **fields,
            **{name: str(uuid4()) for name in _IDS[kind]},
            **MEMBER,
            _INSTANTS[kind]: utc_text(instant),
            "updatedAt": utc_text(now),
        }
        event_id = notice_id(store, kind, identity, instant)
        notices[EVENT_NAMES[kind]] = DemoNotice(kind, identity, {wrapper: row}, event_id)
    return notices
