"""Inputs and results of workflows and activities: references and states, never data, headers or keys.

One model in, one model out; a new field gets a default, so that histories recorded before it still replay. A `target`
is host and path of a subscription's URL, for the Web UI.
"""

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class EventRef:
    """Reference to an event, with its name for the Web UI."""

    store_code: str
    event_id: str
    name: str


@dataclass(frozen=True)
class EventBatch:
    """Events whose first attempts are made together: one, or up to several hundred."""

    events: list[EventRef]


@dataclass(frozen=True)
class FirstAttempt:
    """State of one delivery after its first attempt, for the Web UI."""

    message_id: str
    target: str
    status: str


@dataclass(frozen=True)
class DeliverySummary:
    """Result of a `deliver-events` workflow, in deliveries, for the Web UI."""

    delivered: int = 0
    exhausted: int = 0
    """Ended without success, cancelled ones included."""
    held: int = 0
    """Left to the drain of their subscription."""
    retrying: int = 0
    """Failed, or without an outcome yet: each goes on as an activity `deliver-webhook`."""


@dataclass(frozen=True)
class FirstAttempts(DeliverySummary):
    """Result of the first attempts of one or more events."""

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
    """Delivery to attempt once, on request of an operator. `action` is `redeliver` or `send-now`."""

    message_id: str
    action: str
    target: str
    recorded: int
    """Attempts that were recorded when it was requested. A later one means that the request has had its attempt."""


@dataclass(frozen=True)
class DeliveryEnd:
    """State in which an activity leaves a delivery, or `unknown` when its row is gone."""

    status: str
    attempts: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class DraftTestRef:
    """Reference to a test. With `subscription_id`, a test of a saved webhook: `test_id` is the id of its delivery."""

    test_id: str
    subscription_id: str | None = None


@dataclass(frozen=True)
class DraftTestEnd:
    """Result of a test, for the Web UI: an HTTP status, a failure kind, or "not sent"."""

    outcome: str


@dataclass(frozen=True)
class BulkActionTask:
    """Recovery or backfill to carry out."""

    action_id: str
    subscription_id: str
    target: str


@dataclass(frozen=True)
class BulkActionStep:
    """Progress of a recovery or backfill: `opened` of `count` deliveries wait for the drain or have been attempted.
    `finished`: the action was cancelled, or every delivery has been attempted."""

    opened: int
    count: int
    finished: bool


@dataclass(frozen=True)
class DrainTask:
    """Subscription whose held deliveries to send, and the result of the runs before this one."""

    subscription_id: str
    store_code: str
    event_name: str
    target: str
    delivered: int = 0
    failed_attempts: int = 0
    under_way: list[str] = field(default_factory=list)
    """Deliveries (message ids) that the previous run left on the wire."""


@dataclass(frozen=True)
class DrainRound:
    """Subscription to run a round for. `probe_now`: probe an unhealthy receiver although no probe is due."""

    subscription_id: str
    probe_now: bool = False
    under_way: list[str] = field(default_factory=list)
    """Message ids of deliveries that the last round left on the wire."""
    window: int = 0
    """Window that the last round reached, in deliveries under way; 0: unknown."""


@dataclass(frozen=True)
class DrainRoundResult:
    """Result of one round. `next_in_seconds` null: no held delivery is left that this drain could send."""

    delivered: int
    failed_attempts: int
    next_in_seconds: float | None
    state: str
    """State for the Web UI: the reason why the drain waits, or its current work."""
    ignores_wake: bool = False
    """The next round is scheduled by a probe or a limit; wake signals do not bring it forward."""
    under_way: list[str] = field(default_factory=list)
    """Deliveries left on the wire because their receiver is slow; the next round goes on beside them."""
    window: int = 0
    """Window with which the next round begins, in deliveries under way."""
    refused: bool = False
    """Another sender held the delivery, or the receiver asked to wait: a requested probe is still to be made."""


@dataclass(frozen=True)
class NoticeTask:
    """Store whose due notices to send."""

    store_code: str


@dataclass(frozen=True)
class NoticeRound:
    """Result of a round of notices: sent, failed (tried again later, or given up), and mailed; `more` are due."""

    sent: int
    failed: int
    mailed: int
    more: bool


@dataclass(frozen=True)
class ThinningResult:
    """Result of thinning a day: the rows kept and deleted. `day` is None if no day was left to thin."""

    day: date | None = None
    age_days: int = 0
    bodies_kept: int = 0
    attempts_kept: int = 0
    deliveries_deleted: int = 0
    open_deleted: int = 0
    """Deleted deliveries that were still open at the end of their retention, for example behind a pause of months."""
    bytes_freed: int = 0


@dataclass(frozen=True)
class RetentionRun:
    """Progress of a run of retention."""

    days: int = 0
    deliveries_deleted: int = 0
    open_deleted: int = 0
    bytes_freed: int = 0
    ids_forgotten: int = 0


@dataclass(frozen=True)
class ExpiryRun:
    """Request of a schedule to scan all days that are due. With days: a manual scan of these, in their order."""

    store_code: str
    kind: str
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class ScanTask:
    """Day to scan for rows that expire on it. `starts_at` and `ends_at` (UTC) are set if only a part of the day is left
    to scan. Without a day, the scan looks for late rows in everything from now on that the schedule has scanned."""

    store_code: str
    kind: str
    day: date | None
    origin: str = "manual"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    thorough: bool = False
    """The scan for late rows also reads rows without a time of arrival."""
    scan_id: str | None = None
    """Id of a scan that continues in a new run."""


@dataclass(frozen=True)
class PlanRequest:
    """Store and kind to plan scans for. `now` is the workflow's time, which is Temporal's."""

    store_code: str
    kind: str
    now: datetime


@dataclass(frozen=True)
class ExpiryPlan:
    """Days to scan, in this order. `look_for_late`: look for late rows afterwards."""

    days: list[ScanTask] = field(default_factory=list)
    look_for_late: bool = False
    thorough: bool = False
    given_up: str | None = None
    """Period that lies too far back to scan, for the Web UI."""


@dataclass(frozen=True)
class OpenRequest:
    """Scan to begin, with its id and time."""

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
    """Progress of a scan. `place` names the scanned period, for the Web UI."""

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
        return self.emitted / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class RunSummary:
    """Result of a finished run, for the Web UI."""

    days: int = 0
    emitted: int = 0
    late: int = 0
