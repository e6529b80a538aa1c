"""What crosses the boundary between the workflows of expiry and their activities: days, places and counts, no rows."""

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class ExpiryRun:
    """What a schedule asks for: whatever is to be scanned now. With days: those, in their order, by hand."""

    store_code: str
    kind: str
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class ScanTask:
    """A day on which things expire, to be scanned.

    `starts_at` and `ends_at` (UTC) are set where not the whole day is left to be scanned. Without a day it is a look
    for late rows: everything from now on that the schedule has scanned.
    """

    store_code: str
    kind: str
    day: date | None
    origin: str = "manual"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    thorough: bool = False
    """Of a look for late rows: also at those that do not say when they came."""
    scan_id: str | None = None
    """Set when the scan has begun and goes on in a new run."""


@dataclass(frozen=True)
class PlanRequest:
    """`now` is the workflow's time, which is Temporal's."""

    store_code: str
    kind: str
    now: datetime


@dataclass(frozen=True)
class ExpiryPlan:
    """Days to scan, in this order, and whether to look for late rows afterwards."""

    days: list[ScanTask] = field(default_factory=list)
    look_for_late: bool = False
    thorough: bool = False
    given_up: str | None = None
    """What lies too far back, for people."""


@dataclass(frozen=True)
class OpenRequest:
    """Which scan begins, under which id, at which time."""

    task: ScanTask
    scan_id: str
    workflow_id: str
    now: datetime


@dataclass(frozen=True)
class ScanRef:
    """A scan that has begun."""

    scan_id: str


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan has come. `place` says what it scans, for people."""

    place: str
    scanned: int = 0
    emitted: int = 0
    known: int = 0
    dropped: int = 0
    refused: int = 0
    seconds: float = 0.0
    finished: bool = False
    scan_id: str = ""

    @property
    def emitted_per_second(self) -> float:
        """Rate so far."""
        return self.emitted / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class RunSummary:
    """What a finished run did, for the Web UI."""

    days: int = 0
    emitted: int = 0
    late: int = 0
