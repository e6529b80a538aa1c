"""Fields of a submitted form: only `application/x-www-form-urlencoded` of bounded size, no files.

Days and times are in the store's time zone; unreadable text raises ValidationFailed.
"""

from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request

from api.body import read_body
from api.errors import invalid

FORM_BYTES = 512 * 1024
"""Maximum size of a form: twenty headers of 4 KiB, percent-encoded, and margin."""
ENTRANCE_FORM_BYTES = 16 * 1024
"""Maximum size of a form that needs no session: user name, password and the requested page. Everybody may send one, and
parsing a form of 512 KiB takes 100 ms, in which nobody is answered."""
MOST_FIELDS = 1000
FORM_TYPE = "application/x-www-form-urlencoded"
MOST_DIGITS = 18
"""Maximum digits of a number in a form. Every valid number is far shorter, and Python refuses to parse thousands of
digits."""


class Form(ImmutableMultiDict[str, str]):
    """Form fields in their order; a name may occur several times."""

    def text(self, name: str, default: str = "") -> str:
        """Return the field's first value, stripped."""
        return self.raw(name, default).strip()

    def raw(self, name: str, default: str = "") -> str:
        """Return the field's first value as sent."""
        return next(iter(self.getlist(name)), default)

    def number(self, name: str) -> int | str | None:
        """Return a whole number, None for no text, and other text unchanged, for the API's validation to refuse."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else text or None

    def flag(self, name: str) -> bool:
        """Return True if the box is ticked."""
        return self.text(name) not in ("", "false", "0")

    def __repr__(self) -> str:
        return f"Form of {', '.join(self)}"  # values may be secrets


async def read_form(request: Request, limit_bytes: int = FORM_BYTES) -> Form:
    """Read the form from the request's body. Raises TooLarge and ValidationFailed."""
    raw = await read_body(request, limit_bytes)
    if not raw:
        return Form()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise invalid("", "form", f"must be {FORM_TYPE}")
    try:
        return Form(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise invalid("", "form", "cannot be read as a form") from error


def moment(text: str, zone: ZoneInfo, path: str, *, minutes: int = 0) -> datetime | None:
    """Return the instant of `2026-01-02T03:04` or of a time with its own offset, `minutes` later; None for no text."""
    if not text:
        return None
    try:
        local = datetime.fromisoformat(text)
        instant = (local.replace(tzinfo=zone) if local.tzinfo is None else local).astimezone(UTC)
        return instant + timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day and a time such as 2026-01-02 03:04") from None


def edge(text: str, zone: ZoneInfo, path: str, *, last: bool) -> datetime | None:
    """Return the start of the day or minute, or its end if it is the `last` of a range; None for no text."""
    if not text or "T" in text:
        return moment(text, zone, path, minutes=int(last))
    try:
        return datetime.combine(date.fromisoformat(text) + timedelta(days=last), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(path, "invalid_value", "must be a day such as 2026-01-02") from None


def for_field(instant: datetime | None, zone: ZoneInfo) -> str:
    """Return the instant in the format of a `datetime-local` field, to the second; empty for None."""
    return "" if instant is None else instant.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")
