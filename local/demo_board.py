"""Display of the demo: a row per event that fills as its deliveries arrive."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from rich import box
from rich.table import Table
from rich.text import Text

from local.demo_client import FORMATS


@dataclass
class Cell:
    """Deliveries of one event in one format: expected count, and the seconds until each arrival."""

    expected: int
    emitted: float = 0.0
    arrived: list[float] = field(default_factory=list)

    def text(self) -> Text:
        """Return the table cell: a mark per delivery and the milliseconds since the event was emitted."""
        if not self.emitted:
            return Text("·", style="dim")
        marks = "✓" * len(self.arrived) + "…" * (self.expected - len(self.arrived))
        milliseconds = f" {max(self.arrived) * 1000:.0f} ms" if self.arrived else ""
        return Text(marks + milliseconds, style="green" if len(self.arrived) >= self.expected else "yellow")


@dataclass(frozen=True)
class Arrival:
    """An arrived delivery, with the seconds since its event was emitted."""

    event_name: str
    format: str
    seconds: float


class DemoBoard:
    """Counter of the deliveries of one round of samples, each once by message id."""

    def __init__(self, expected: Mapping[UUID, tuple[str, str]]) -> None:
        """`expected` maps every message id of the round to event name and format."""
        self._awaited = dict(expected)
        self._cells: dict[tuple[str, str], Cell] = {}
        for key in expected.values():
            self._cells.setdefault(key, Cell(0)).expected += 1

    def emitting(self, event_name: str) -> None:
        """Note the time at which the event is emitted."""
        for form in FORMATS:
            self._cells[event_name, form].emitted = time.monotonic()

    def arrive(self, message_id: UUID) -> Arrival | None:
        """Record a message. Return None if it is not part of this round or arrived before."""
        key = self._awaited.pop(message_id, None)
        if key is None:
            return None
        cell = self._cells[key]
        cell.arrived.append(time.monotonic() - cell.emitted)
        return Arrival(*key, cell.arrived[-1])

    @property
    def expected(self) -> int:
        """Number of deliveries of the whole round."""
        return sum(cell.expected for cell in self._cells.values())

    @property
    def arrived(self) -> int:
        """Number of arrived deliveries."""
        return sum(len(cell.arrived) for cell in self._cells.values())

    @property
    def complete(self) -> bool:
        """True if all deliveries have arrived."""
        return self.arrived >= self.expected

    def table(self) -> Table:
        """Return the current board as a table."""
        table = Table(box=box.SIMPLE_HEAD, footer_style="bold", show_footer=True)
        table.add_column("Event", footer="Deliveries arrived", no_wrap=True)
        footers = (f"{self.arrived} of {self.expected}", "")
        for form, footer in zip(FORMATS, footers, strict=True):
            table.add_column(form.capitalize(), footer=footer, min_width=10, no_wrap=True)
        for event_name in dict.fromkeys(name for name, _ in self._cells):
            table.add_row(event_name, *(self._cells[event_name, form].text() for form in FORMATS))
        return table
