"""What crosses the boundary between workflows and activities: references and states, never data, headers or keys.

One model in, one model out; a new field gets a default, so that histories recorded before it still replay.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class EventRef:
    """Which event: enough to find it and to name it in the Web UI."""

    store_code: str
    event_id: str
    name: str


@dataclass(frozen=True)
class Waiting:
    """A delivery that did not end with its first attempt."""

    event_id: str
    message_id: str
    target: str
    """Host and path of its URL, for people."""
    delay_seconds: float
    """Until its next attempt; 0 when one is due or still under way."""
    attempts: int = 0
    """Made so far, for people; 0 when the first is under way or due."""
    store_code: str = ""
    """Of its event. A worker of an earlier version named none."""


def by_event(waiting: Iterable[Waiting]) -> Mapping[tuple[str, str], list[Waiting]]:
    """Store code and event id -> what waits of the event."""
    by_key: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
    for one in waiting:
        by_key[one.store_code, one.event_id].append(one)
    return by_key


def waiting_of(event: EventRef, waiting: Mapping[tuple[str, str], list[Waiting]]) -> list[Waiting] | None:
    """What waits of one event, by its store where that was named; None when nothing does."""
    return waiting.get((event.store_code, event.event_id)) or waiting.get(("", event.event_id))


@dataclass(frozen=True)
class EventBatch:
    """Events whose first attempts are to be made together."""

    events: list[EventRef]


@dataclass(frozen=True)
class EventTask:
    """One event to deliver. `waiting` is set when a batch has made the first attempts already and could list them;
    `waiting_since` is when their delays began."""

    event: EventRef
    waiting: list[Waiting] | None = None
    waiting_since: datetime | None = None


@dataclass(frozen=True)
class HandOn:
    """Events that a batch could not settle, and which of their deliveries wait; of an event without any, its own
    workflow reads which. `since` is when the delays began."""

    events: list[EventRef]
    waiting: list[Waiting]
    since: datetime


@dataclass(frozen=True)
class Settled:
    """A delivery that ended with its first attempt, for people."""

    message_id: str
    target: str
    status: str


@dataclass(frozen=True)
class FirstAttempts:
    """What the first attempts of one or more events came to."""

    delivered: int = 0
    ended: int = 0
    """Exhausted or cancelled at once."""
    waiting: list[Waiting] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    """Of a single event; a batch gives numbers only, so that its history stays small."""
    unlisted: dict[str, int] = field(default_factory=dict)
    """Event id -> deliveries of it that wait beyond those listed in `waiting`; its own workflow reads which."""

    @property
    def going_on(self) -> int:
        """Deliveries that did not end."""
        return len(self.waiting) + sum(self.unlisted.values())


@dataclass(frozen=True)
class DeliveryRef:
    """Which delivery to attempt. `asked`: a person does not want to wait until the next attempt is due."""

    message_id: str
    asked: bool = False


@dataclass(frozen=True)
class DeliveryEnd:
    """How a delivery ended: `delivered`, `exhausted`, `cancelled`, or `unknown` when its rows are gone."""

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
class WindowTask:
    """Which recovery or backfill to carry out."""

    act_id: str
    subscription_id: str
    target: str
    """Host and path of the subscription's URL, for people."""


@dataclass(frozen=True)
class WindowStep:
    """How far a recovery or backfill is: `opened` of `count` deliveries wait for the keeper or have been attempted.

    `finished`: it has ended, cancelled or with an attempt of each.
    """

    opened: int
    count: int
    finished: bool


@dataclass(frozen=True)
class DeliverySummary:
    """What a finished workflow did, for the Web UI."""

    delivered: int = 0
    exhausted: int = 0
    cancelled: int = 0
    handed_on: int = 0
    """Deliveries that go on in their event's own workflow."""


@dataclass(frozen=True)
class KeeperTask:
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
class KeeperRound:
    """Which subscription; `probe_now`: ask an unwell receiver although no probe is due."""

    subscription_id: str
    probe_now: bool = False
    under_way: list[str] = field(default_factory=list)
    """Deliveries (message ids) that the last round left on the wire."""
    window: int = 0
    """How many its receiver may get at once, as far as the last round has found out; 0: it is unknown."""


@dataclass(frozen=True)
class KeeperRoundResult:
    """What one round did. `next_in_seconds` null: nothing is left that this keeper could let go."""

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
