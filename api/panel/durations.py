"""Durations for people: `12 ms`, `1.3 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`."""

from datetime import timedelta

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
_UNITS = ((DAY_MS, "d", HOUR_MS, "h"), (HOUR_MS, "h", MINUTE_MS, "min"), (MINUTE_MS, "min", SECOND_MS, "s"))


def milliseconds(value: float) -> str:
    """A duration in milliseconds, in the two units that say most."""
    whole = round(value)
    for unit, name, lesser, lesser_name in _UNITS:
        if whole >= unit:
            rest = whole % unit // lesser
            return f"{whole // unit} {name}" + (f" {rest} {lesser_name}" if rest else "")
    return f"{whole / SECOND_MS:.3g} s" if whole >= SECOND_MS else f"{whole} ms"


def span(value: timedelta) -> str:
    """The same of a span of time."""
    return milliseconds(value / timedelta(milliseconds=1))
