"""Days and times as forms send them, in the store's zone."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from api.errors import invalid


def start_of_day(text: str, zone: ZoneInfo, path: str) -> datetime | None:
    """When the day begins there; None for no day. Raises ValidationFailed."""
    return None if not text else _midnight(text, zone, path, days=0)


def end_of_day(text: str, zone: ZoneInfo, path: str) -> datetime | None:
    """When the day is over there; None for no day. Raises ValidationFailed."""
    return None if not text else _midnight(text, zone, path, days=1)


def moment(text: str, zone: ZoneInfo, path: str) -> datetime | None:
    """The instant of `2026-01-02T03:04` there; None for nothing. Raises ValidationFailed."""
    if not text:
        return None
    try:
        local = datetime.fromisoformat(text)
        return (local.replace(tzinfo=zone) if local.tzinfo is None else local).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day and a time such as 2026-01-02 03:04") from None


def for_field(instant: datetime, zone: ZoneInfo) -> str:
    """The instant as a field of type `datetime-local` takes it, to the minute."""
    return instant.astimezone(zone).strftime("%Y-%m-%dT%H:%M")


def _midnight(text: str, zone: ZoneInfo, path: str, days: int) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text) + timedelta(days=days), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day such as 2026-01-02") from None
