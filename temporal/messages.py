"""What crosses the boundary between workflows and activities: references and states, never data, headers or keys.

One model in, one model out; a new field gets a default, so that histories recorded before it still replay.
"""

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class EventRef:
    """Which event: enough to find it and to name it in the Web UI."""

    store_code: str
    event_id: str
    name: str


@dataclass(frozen=True)
class EventBatch:
    """Events whose first attempts are made together; one, or up to several hundred."""

    events: list[EventRef]


@dataclass(frozen=True)
class FirstAttempt:
    """State of one delivery after its first attempt, for the Web UI."""

    message_id: str
    target: str
    """Host and path of its URL."""
    status: str


@dataclass(frozen=True)
class FirstAttempts:
    """Result of the first attempts of one or more events, in deliveries."""

    delivered: int = 0
    exhausted: int = 0
    """Ended without success, cancelled ones included."""
    held: int = 0
    """Left to the drain of their subscription."""
    retrying: int = 0
    """Failed, or without an outcome yet: each goes on as an activity of its own."""
    unsettled: list[EventRef] = field(default_factory=list)
    """Events with deliveries that are retrying."""
    deliveries: list[FirstAttempt] = field(default_factory=list)
    """Deliveries of a single event. A batch gives numbers only, so that its history stays small."""


@dataclass(frozen=True)
class ScheduledRetries:
    """Result of `schedule-retries`: activities that wait for the next attempt, and starts that Temporal refused."""

    started: int
    refused: int = 0


@dataclass(frozen=True)
class DeliveryRef:
    """Delivery to attempt until it ends."""

    message_id: str


@dataclass(frozen=True)
class ManualAttempt:
    """Delivery of which a person asked for one attempt. `action` is `redeliver`, `send-now` or `test`."""

    message_id: str
    action: str
    target: str
    """Host and path of its URL, for the Web UI."""


@dataclass(frozen=True)
class DeliveryEnd:
    """State in which an activity leaves a delivery, or `unknown` when its row is gone."""

    status: str
    attempts: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class DraftTestRef:
    """Which test to send. With `subscription_id`, a test of a saved webhook: `test_id` is the id of its delivery."""

    test_id: str
    subscription_id: str | None = None


@dataclass(frozen=True)
class DraftTestEnd:
    """Result of a test, for the Web UI: an HTTP status, a failure kind, or "not sent"."""

    outcome: str


@dataclass(frozen=True)
class BulkActionTask:
    """Which recovery or backfill to carry out."""

    action_id: str
    subscription_id: str
    target: str
    """Host and path of the subscription's URL, for people."""


@dataclass(frozen=True)
class BulkActionStep:
    """How far a recovery or backfill is: `opened` of `count` deliveries wait for the drain or have been attempted.

    `finished`: it has ended, cancelled or with an attempt of each.
    """

    opened: int
    count: int
    finished: bool


@dataclass(frozen=True)
class DeliverySummary:
    """Result of a `deliver-events` workflow, in deliveries, for the Web UI."""

    delivered: int = 0
    exhausted: int = 0
    held: int = 0
    """Left to the drain of their subscription."""
    retrying: int = 0
    """Go on as an activity `deliver-webhook` each."""


@dataclass(frozen=True)
class DrainTask:
    """Whose held deliveries to look after, and what was done before this run."""

    subscription_id: str
    store_code: str
    event_name: str
    target: str
    """Host and path of its URL, for people."""
    delivered: int = 0
    failed_attempts: int = 0
    under_way: list[str] = field(default_factory=list)
    """Deliveries (message ids) that the run before this left on the wire."""


@dataclass(frozen=True)
class DrainRound:
    """Which subscription; `probe_now`: ask an unwell receiver although no probe is due."""

    subscription_id: str
    probe_now: bool = False
    under_way: list[str] = field(default_factory=list)
    """Deliveries (message ids) that the last round left on the wire."""
    window: int = 0
    """How many its receiver may get at once, as far as the last round has found out; 0: it is unknown."""


@dataclass(frozen=True)
class DrainRoundResult:
    """What one round did. `next_in_seconds` null: nothing is left that this drain could let go."""

    delivered: int
    failed_attempts: int
    next_in_seconds: float | None
    state: str
    """For people: why it waits, or what it lets go."""
    deaf: bool = False
    """New deliveries change nothing about when the next round is due: a probe or a limit is waited for."""
    under_way: list[str] = field(default_factory=list)
    """Deliveries whose receiver is slow, so that the next round need not wait for them."""
    window: int = 0
    """How many its receiver may get at once; the next round begins with that."""
    refused: bool = False
    """Another sender was at it, so that what a person asked for is still to be done."""


@dataclass(frozen=True)
class NoticeTask:
    """Whose operator to tell what is due."""

    store_code: str


@dataclass(frozen=True)
class NoticeRound:
    """What came of notices: sent, failed (tried again later, or given up), and put into a mail."""

    sent: int
    failed: int
    mailed: int
    more: bool
    """Others are due already."""


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
