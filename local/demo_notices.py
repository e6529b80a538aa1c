"""Scheduled events of the demo: an expiry row of each kind for the day due today, with its notice."""

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
    """An expiry row, with the id of the event that a scan of its day emits."""

    kind: Kind
    identity: UUID
    row: dict[str, Any]
    """Body of the PUT."""
    event_id: UUID


def demo_notices(store: str, settings: dict[str, Any]) -> dict[str, DemoNotice]:
    """Return a notice for each scheduled event, by event name. `settings` are the store's, as the API returns them."""
    now = datetime.now(UTC)
    store_zone = zone(settings["timezone"])
    notices = {}
    for kind in Kind:
        day = local_day(now, store_zone) + timedelta(days=settings[_SETTINGS[kind]])
        instant = day_start(day, store_zone) + timedelta(hours=12)
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
