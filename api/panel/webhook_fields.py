"""The form of a webhook, and what the API takes: each field is named by the API's path, so its errors find it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from api.errors import ApiError, FieldProblem, Problem, ValidationFailed
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
"""Every field, as a form shows it that nobody has filled in."""


@dataclass(frozen=True)
class WebhookForm:
    """What a form says, as the API's body; `rows` are the places in the form of the headers it names."""

    body: dict[str, JsonValue]
    rows: Sequence[int] = ()

    def placed(self, error: ApiError) -> ApiError:
        """The error with the form's names: headers by their row, one delay of a schedule by the schedule."""
        if not isinstance(error, ValidationFailed):
            return error
        return ValidationFailed([self._placed(problem) for problem in error.problems])

    def _placed(self, problem: FieldProblem) -> FieldProblem:
        first, _, rest = problem.path.partition(".")
        place, _, name = rest.partition(".")
        if first == "headers" and place.isdigit() and int(place) < len(self.rows):
            return Problem(f"headers.{self.rows[int(place)]}.{name}", problem.code, problem.message)
        if first == "retrySchedule" and rest:
            return Problem(first, problem.code, f"delay {int(rest) + 1}: {problem.message}")
        return problem


def read_webhook(form: Form, zone: ZoneInfo, active_from: datetime | None = None) -> WebhookForm:
    """The form as a body, not checked: what cannot be read stays as it is, and the API says what is wrong with it.

    The stored `active_from` stays as long as the form shows it: clocks that are set back show two instants alike.
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
    """Rows that are not empty, and where they stand."""
    headers: list[JsonValue] = []
    rows: list[int] = []
    for place, name, value in _header_rows(form):
        if name or value:
            headers.append({"headerName": name, "headerValue": value})
            rows.append(place)
    return headers, rows


def _header_rows(form: Form) -> Iterable[tuple[int, str, str]]:
    """Place, name and value of each row of headers."""
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
    """`5s, 10m, 1h` as seconds; `none` as no retries; nothing as the installation's schedule."""
    if not text or text.lower() == NO_RETRIES:
        return [] if text else None
    return [_delay(part) for part in re.split(r"[,;]\s*|\s+", text) if part]


def _delay(part: str) -> JsonValue:
    found = _DELAY.fullmatch(part.lower())
    return part if found is None else int(found[1]) * _UNITS[found[2]]


def shown_schedule(delays: Iterable[int] | None) -> str:
    """Delays as the form takes them; nothing for None."""
    if delays is None:
        return ""
    return ", ".join(_shown_delay(seconds) for seconds in delays) or NO_RETRIES


def _shown_delay(seconds: int) -> str:
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


@dataclass(frozen=True)
class HeaderRow:
    """One header of the form. `value` is nothing, or the mask of a stored value: no value ever stands in a page."""

    place: int
    name: str
    value: str


def fields_of(values: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """The fields of a stored subscription's details (camelCase), as the form shows them."""
    names = [header["headerName"] for header in values["headers"]]
    return {
        **EMPTY,
        **values,
        "activeFrom": for_field(values["activeFrom"], zone),
        "retrySchedule": shown_schedule(values["retrySchedule"]),
        "headers": [HeaderRow(place, name, MASK) for place, name in enumerate(names)],
    }


def fields_again(form: Form) -> dict[str, Any]:
    """The fields as they were sent, for a form that is shown once more; values of headers are to be typed again."""
    headers = [HeaderRow(place, name, MASK if value == MASK else "") for place, name, value in _header_rows(form)]
    sent = {name: form.text(name) for name in (*_TEXTS, *_CHOICES)}
    return {**sent, **{name: form.flag(name) for name in _SWITCHES}, "headers": headers}


def emptied(form: Form) -> list[int]:
    """ConcurrencyLimiter of the headers whose values `fields_again` took away."""
    return [place for place, _, value in _header_rows(form) if value not in ("", MASK)]


def now_on_clocks(zone: ZoneInfo) -> str:
    """The store's time now, for people."""
    return datetime.now(UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")
