"""Conversion between a webhook's form and the API's body.

Each form field has the name of the API's path, so that the API's errors can be shown beside it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from api.errors import ApiError, Problem, ValidationFailed
from api.panel.forms import Form
from api.panel.moments import for_field, moment
from domain.wire.jsontext import JsonValue
from storage.access.audit import MASK

NO_RETRIES = "none"
_HEADER = re.compile(r"headers\.(\d{1,4})\.headerName")
_DELAY = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_SWITCHES = ("legacy", "hmacEnabled", "ordered")
_NUMBERS = ("rateLimitPerSecond", "maxConcurrency")
_CHOICES = {"orderKey": "subscription", "afterExhausted": "skip"}
_TEXTS = ("idempotencyKey", "eventName", "url", "name", "activeFrom", "retrySchedule", *_NUMBERS)
EMPTY: Mapping[str, Any] = {**dict.fromkeys(_TEXTS, ""), **dict.fromkeys(_SWITCHES, False), **_CHOICES, "headers": ()}
"""Values of an empty form."""


@dataclass(frozen=True)
class WebhookForm:
    """Body of the API made from a form; `rows` are the form's row numbers of its headers."""

    body: dict[str, JsonValue]
    rows: Sequence[int] = ()

    def placed(self, error: ApiError) -> ApiError:
        """Return the error with the form's field names: headers by their row, a delay by its schedule."""
        if not isinstance(error, ValidationFailed):
            return error
        return ValidationFailed([self._placed(problem) for problem in error.problems])

    def _placed(self, problem: Problem) -> Problem:
        first, _, rest = problem.path.partition(".")
        place, _, name = rest.partition(".")
        if first == "headers" and place.isdigit() and int(place) < len(self.rows):
            return Problem(f"headers.{self.rows[int(place)]}.{name}", problem.code, problem.message)
        if first == "retrySchedule" and rest:
            return Problem(first, problem.code, f"delay {int(rest) + 1}: {problem.message}")
        return problem


def read_webhook(form: Form, zone: ZoneInfo, active_from: datetime | None = None) -> WebhookForm:
    """Convert the form to a body without validation. Unreadable values stay text, for the API's validation to refuse.

    An unchanged `activeFrom` keeps the stored instant, because two instants look the same when clocks are set back.
    """
    headers, rows = _headers(form)
    body: dict[str, JsonValue] = {
        "url": form.text("url"),
        "name": form.text("name") or None,
        "activeFrom": _instant(form.text("activeFrom"), zone, active_from),
        "retrySchedule": _schedule(form.text("retrySchedule")),
        "headers": headers,
        **{name: form.flag(name) for name in _SWITCHES},
        **{name: _number(form.text(name)) for name in _NUMBERS},
        **{name: form.text(name, usual) for name, usual in _CHOICES.items()},
    }
    if "eventName" in form:
        body["eventName"] = form.text("eventName")
    return WebhookForm(body, rows)


def _headers(form: Form) -> tuple[list[JsonValue], list[int]]:
    """Return the headers of the non-empty rows, and their row numbers."""
    headers: list[JsonValue] = []
    rows: list[int] = []
    for place, name, value in _header_rows(form):
        if name or value:
            headers.append({"headerName": name, "headerValue": value})
            rows.append(place)
    return headers, rows


def _header_rows(form: Form) -> Iterable[tuple[int, str, str]]:
    """Yield row number, name and value of each header row."""
    for place in sorted({int(found[1]) for field, _ in form if (found := _HEADER.fullmatch(field)) is not None}):
        yield place, form.text(f"headers.{place}.headerName"), form.raw(f"headers.{place}.headerValue")


def _number(text: str) -> JsonValue:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    return text or None


def _instant(text: str, zone: ZoneInfo, stored: datetime | None) -> JsonValue:
    try:
        typed = moment(text, zone, "activeFrom")
    except ValidationFailed:
        return text
    if typed is None:
        return None
    return (stored if stored is not None and for_field(typed, zone) == for_field(stored, zone) else typed).isoformat()


def _schedule(text: str) -> JsonValue:
    """Convert `5s, 10m, 1h` to seconds, `none` to an empty schedule and no text to None, the installation's."""
    if not text or text.lower() == NO_RETRIES:
        return [] if text else None
    return [_delay(part) for part in re.split(r"[,;]\s*|\s+", text) if part]


def _delay(part: str) -> JsonValue:
    found = _DELAY.fullmatch(part.lower())
    return part if found is None else int(found[1]) * _UNITS[found[2]]


def shown_schedule(delays: Iterable[int] | None) -> str:
    """Format delays for the form; empty for None."""
    if delays is None:
        return ""
    return ", ".join(_shown_delay(seconds) for seconds in delays) or NO_RETRIES


def _shown_delay(seconds: int) -> str:
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


@dataclass(frozen=True)
class HeaderRow:
    """Header row of the form. `value` is empty or the mask of a stored value: a page never contains a header value."""

    place: int
    name: str
    value: str


def fields_of(values: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Convert a stored subscription's details (camelCase) to form values."""
    names = [header["headerName"] for header in values["headers"]]
    return {
        **EMPTY,
        **values,
        "activeFrom": for_field(values["activeFrom"], zone),
        "retrySchedule": shown_schedule(values["retrySchedule"]),
        "headers": [HeaderRow(place, name, MASK) for place, name in enumerate(names)],
    }


def fields_again(form: Form) -> dict[str, Any]:
    """Return the submitted fields for a form that is shown again. Header values must be entered again."""
    headers = [HeaderRow(place, name, MASK if value == MASK else "") for place, name, value in _header_rows(form)]
    sent = {name: form.text(name) for name in (*_TEXTS, *_CHOICES)}
    return {**sent, **{name: form.flag(name) for name in _SWITCHES}, "headers": headers}


def emptied(form: Form) -> list[int]:
    """Return the row numbers of the headers whose values `fields_again` removed."""
    return [place for place, _, value in _header_rows(form) if value not in ("", MASK)]


def now_on_clocks(zone: ZoneInfo) -> str:
    """Return the current time in the zone, to the minute."""
    return datetime.now(UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")
