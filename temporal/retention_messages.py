"""What crosses between the workflow of retention and its activities. A new field gets a default."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class ThinningResult:
    """What came of a day: the rows that stayed and went. `day` is None when none was left to be thinned."""

    day: date | None = None
    age_days: int = 0
    bodies_kept: int = 0
    attempts_kept: int = 0
    deliveries_deleted: int = 0
    open_deleted: int = 0
    """Of the deliveries: those that were still open when their time was up, as behind a pause of months."""
    bytes_freed: int = 0


@dataclass(frozen=True)
class RetentionRun:
    """What a run has done so far."""

    days: int = 0
    deliveries_deleted: int = 0
    open_deleted: int = 0
    bytes_freed: int = 0
    ids_forgotten: int = 0
