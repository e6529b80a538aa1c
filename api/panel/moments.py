"""Days and times of forms, in the store's time zone. Unreadable text raises ValidationFailed."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from api.errors import invalid


def moment(text: str, zone: ZoneInfo, path: str) -> datetime | None:
    """Return the instant of `2026-01-02T03:04` in the zone, or of a time with its own offset; None for no text."""
    return None if not text else _instant(text, zone, path)


def end_of_day(text: str, zone: ZoneInfo, path: str) -> datetime | None:
    """Return the end of the day in the zone; None for no text."""
    return None if not text else _midnight(text, zone, path, days=1)


def edge(text: str, zone: ZoneInfo, path: str, *, last: bool) -> datetime:
    """Return the start of the day or minute in the zone, or its end if it is the `last` of a range."""
    if "T" in text:
        return _instant(text, zone, path, timedelta(minutes=1 if last else 0))
    return _midnight(text, zone, path, days=1 if last else 0)


def for_field(instant: datetime | None, zone: ZoneInfo) -> str:
    """Return the instant in the format of a `datetime-local` field, to the second; empty for None."""
    return "" if instant is None else instant.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")


def _instant(text: str, zone: ZoneInfo, path: str, after: timedelta = timedelta(0)) -> datetime:
    try:
        local = datetime.fromisoformat(text)
        return (local.replace(tzinfo=zone) if local.tzinfo is None else local).astimezone(UTC) + after
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day and a time such as 2026-01-02 03:04") from None


def _midnight(text: str, zone: ZoneInfo, path: str, days: int) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text) + timedelta(days=days), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day such as 2026-01-02") from None
