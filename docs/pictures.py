"""The pictures of docs/ as SVG: the states of a delivery, from the table of transitions, and the path of an event.

Plain SVG without script or font file, so that a page shows the same picture on a code host, on the site and on paper.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from domain.delivery.lifecycle import STATUS_WORDS, TRANSITIONS, Cause, DeliveryStatus

PENDING, HELD, DELIVERED, EXHAUSTED, CANCELLED = DeliveryStatus
LINE = 17
"""Height of a line of text in pixels."""

STYLE = """
    text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2937; }
    .name { font-weight: 600; font-size: 15px; }
    .note { fill: #4b5563; font-size: 12px; }
    .box { fill: #ffffff; stroke: #6b7280; stroke-width: 1.5; }
    .store { fill: #eef2ff; stroke: #6366f1; }
    .good { fill: #ecfdf5; stroke: #059669; }
    .bad { fill: #fef2f2; stroke: #dc2626; }
    .wait { fill: #fffbeb; stroke: #d97706; }
    .arrow { fill: none; stroke: #374151; stroke-width: 1.5; marker-end: url(#head); }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a name and lines of text below it."""

    x: int
    y: int
    width: int
    height: int
    name: str
    lines: Sequence[str] = ()
    look: str = ""

    def svg(self) -> Iterable[str]:
        """Yield the elements."""
        middle, first = self.x + self.width // 2, self.y + self.height // 2 + 5 - LINE * len(self.lines) // 2
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        yield f'<rect class="box {self.look}" {place} rx="8"/>'
        yield text(middle, first, self.name, "name", "middle")
        for number, line in enumerate(self.lines, start=1):
            yield text(middle, first + number * LINE, line, "note", "middle")


def text(x: int, y: int, words: str, look: str = "note", anchor: str = "start") -> str:
    """Return one line of text."""
    return f'<text x="{x}" y="{y}" class="{look}" text-anchor="{anchor}">{escape(words)}</text>'


def arrow(path: str) -> str:
    """Return a line with a head at its end."""
    return f'<path class="arrow" d="{path}"/>'


def picture(title: str, width: int, height: int, elements: Iterable[str]) -> str:
    """Return the file: a white card, so that it is readable on a dark page too."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">',
            f"  <title>{title}</title>",
            f"  <style>{STYLE}  </style>",
            '  <defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#374151"/></marker></defs>',
            f'  <rect width="{width}" height="{height}" rx="10" fill="#f9fafb"/>',
            *(f"  {element}" for element in elements),
            "</svg>",
            "",
        ]
    )


@dataclass(frozen=True)
class Change:
    """An arrow of the states: every transition from one of `sources` to `target`, and where its causes are written."""

    sources: frozenset[DeliveryStatus | None]
    target: DeliveryStatus
    path: str
    at: tuple[int, int]
    joined: bool = False
    note: str = ""

    def lines(self) -> list[str]:
        """Return the causes in the order of the table, in one line if `joined`."""
        rows = (row for row in TRANSITIONS if row.source in self.sources and row.target is self.target)
        causes = [_CAUSES.get(cause, cause) + self.note for cause in dict.fromkeys(row.cause for row in rows)]
        return [" · ".join(causes)] if self.joined else causes


_CAUSES = {
    Cause.SUCCESS: "the receiver answers 2xx",
    Cause.FINAL_FAILURE: "the last attempt failed",
    Cause.SUSPEND: "due while paused, failing or limited",
    Cause.FAILURE: "failed, and too many retries wait",
    Cause.OUTWAIT: "its retries ended while the receiver failed",
    Cause.ERASED_BODY: "an attempt finds no data",
    Cause.CANCEL: "a person cancels it",
    Cause.RECOVER: "a person recovers a time window",
    Cause.DISABLE: "its webhook is disabled",
    Cause.DELETE: "its webhook is deleted",
    Cause.ADOPT: "format migration",
    Cause.SWITCH_OVER: "format migration",
    Cause.LOSE_TEST: "a test was not started",
}
"""Shorter words for causes that the page has in full beside the picture."""

_OPEN, _ENDED = frozenset({PENDING, HELD}), frozenset({DELIVERED, EXHAUSTED, CANCELLED})
_CHANGES = (
    Change(frozenset({None}), PENDING, "M60 140 H188", (72, 112)),
    Change(frozenset({None}), HELD, "M48 126 V44 H705 V102", (300, 36), joined=True),
    Change(frozenset({None}), EXHAUSTED, "M48 152 V548 H530 V472", (60, 540), note=", while its webhook is disabled"),
    Change(frozenset({PENDING}), HELD, "M342 132 H618", (352, 150)),
    Change(_OPEN, DELIVERED, "M265 192 V388", (273, 284)),
    Change(_OPEN, EXHAUSTED, "M480 192 V388", (488, 260)),
    Change(_OPEN, CANCELLED, "M770 192 V388", (778, 228)),
    Change(_ENDED, HELD, "M868 430 H1040 V140 H806", (834, 128)),
    Change(frozenset({EXHAUSTED, CANCELLED}), DELIVERED, "M480 472 V496 H265 V472", (275, 513)),
    Change(frozenset({EXHAUSTED}), CANCELLED, "M562 430 H688", (568, 422)),
)


def states_of_a_delivery() -> str:
    """Draw every change of status. Raises ValueError for a transition that no arrow shows."""
    shown = {(source, change.target) for change in _CHANGES for source in change.sources}
    missing = [row for row in TRANSITIONS if row.source is not row.target and (row.source, row.target) not in shown]
    if missing:
        raise ValueError(f"no arrow of docs/pictures.py shows {missing[0]}")
    elements = [
        '<rect class="box wait" x="174" y="90" width="632" height="100" rx="10"/>',
        '<rect class="box" x="174" y="366" width="692" height="158" rx="10" stroke-dasharray="4 4"/>',
        *Box(190, 104, 150, 72, STATUS_WORDS[PENDING], ("API: pending",)).svg(),
        *Box(620, 104, 170, 72, STATUS_WORDS[HELD], ("API: held", "with the reason")).svg(),
        *Box(185, 390, 160, 80, STATUS_WORDS[DELIVERED], ("API: delivered",), "good").svg(),
        *Box(400, 390, 160, 80, STATUS_WORDS[EXHAUSTED], ("API: exhausted",), "bad").svg(),
        *Box(690, 390, 160, 80, STATUS_WORDS[CANCELLED], ("API: cancelled",), "bad").svg(),
        '<circle cx="48" cy="140" r="12" fill="#374151"/>',
    ]
    for change in _CHANGES:
        elements.append(arrow(change.path))
        x, y = change.at
        elements += [text(x, y + LINE * number, line) for number, line in enumerate(change.lines())]
    return picture("The states of a delivery", 1060, 570, elements)


def path_of_an_event() -> str:
    """Draw an event on its way from the platform to three receivers."""
    boxes = (
        Box(20, 40, 150, 70, "platform", ("emits an event",)),
        Box(280, 40, 170, 70, "API", ("validates, commits",)),
        Box(540, 40, 210, 70, "PostgreSQL", ("the log of events:", "every fact"), "store"),
        Box(540, 190, 210, 70, "worker", ("matches the webhooks,", "sends the first attempts")),
        Box(870, 190, 170, 70, "Temporal", ("workflows, timers", "of retries"), "store"),
        Box(20, 360, 230, 84, "receiver 1", ("answers 200:", "delivered"), "good"),
        Box(340, 360, 250, 84, "receiver 2", ("answers 503: waiting,", "Temporal has the timer"), "wait"),
        Box(680, 360, 270, 84, "receiver 3", ("its webhook is paused: held,", "a row for its drain"), "wait"),
    )
    arrows = (
        ("M170 66 H278", (186, 58), "POST /event"),
        ("M280 92 H172", (212, 108), "202"),
        ("M450 75 H538", (470, 67), "INSERT"),
        ("M645 110 V188", (653, 154), "claims"),
        ("M750 214 H868", (790, 206), "starts"),
        ("M870 238 H752", (762, 256), "runs, also retries"),
        ("M580 260 L140 358", (262, 304), "POST, signed"),
        ("M630 260 L480 358", (562, 324), "POST, signed"),
        ("M680 260 L800 358", (764, 316), "nothing is sent"),
    )
    elements = [element for box in boxes for element in box.svg()]
    for path, (x, y), words in arrows:
        elements += [arrow(path), text(x, y, words)]
    elements.append(text(20, 142, "202 means: the event is committed, and every webhook that subscribes to it gets it"))
    return picture("The path of an event", 1060, 464, elements)


COLUMNS = 112
"""Width of a terminal's picture in characters: readable on a page without scrolling."""

_CELL, _ROW = 7.8, 19
_SGR = re.compile(r"\x1b\[([\d;]*)m")
_LOOKS = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "36": "c"}
_TERMINAL_STYLE = """
    text { font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #e5e7eb; white-space: pre; }
    .b { font-weight: 700; fill: #ffffff; } .d { fill: #9ca3af; } .r { fill: #f87171; } .g { fill: #4ade80; }
    .y { fill: #fbbf24; } .c { fill: #67e8f9; }
"""


def terminal(title: str, output: str) -> str:
    """Draw the output of commands, with its colours as a terminal shows them."""
    rows = [row for line in output.rstrip("\n").split("\n") for row in _rows(line)]
    width, height = round(COLUMNS * _CELL) + 32, len(rows) * _ROW + 32
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">',
        f"  <title>{title}</title>",
        f"  <style>{_TERMINAL_STYLE}  </style>",
        f'  <rect width="{width}" height="{height}" rx="10" fill="#111827"/>',
    ]
    for number, row in enumerate(rows):
        spans = "".join(
            f'<tspan class="{look}">{escape(words)}</tspan>' if look else escape(words) for look, words in row
        )
        lines.append(f'  <text x="16" y="{16 + _ROW * number + 14}">{spans}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _rows(line: str) -> Iterable[list[tuple[str, str]]]:
    """Yield the rows of a line, broken at the width, as (look, words)."""
    pieces, look = _SGR.split(line), ""
    row: list[tuple[str, str]] = []
    room = COLUMNS
    for index, piece in enumerate(pieces):
        if index % 2:
            look = " ".join(_LOOKS[code] for code in piece.split(";") if code in _LOOKS)
            continue
        rest = piece
        while len(rest) > room:
            cut = max(rest.rfind(" ", 0, room), 0) or room
            yield [*row, (look, rest[:cut])]
            row, rest, room = [("", "  ")], rest[cut:].lstrip(), COLUMNS - 2
        row.append((look, rest))
        room -= len(rest)
    yield row
