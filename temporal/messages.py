"""What crosses the boundary between workflows and activities: references and states, never data, headers or keys.

One model in, one model out; a new field gets a default, so that histories recorded before it still replay.
"""

from dataclasses import dataclass, field
from datetime import timedelta


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


DRAFT_TEST_TIMEOUT = timedelta(seconds=30)
"""Bound of a draft test. A person waits in front of the page, so a worker that comes later sends nothing."""


@dataclass(frozen=True)
class TrialRef:
    """Which test of a webhook that is not saved to send."""

    trial_id: str


@dataclass(frozen=True)
class TrialEnd:
    """What came of it, for the Web UI: a status, a kind of failure, or that it was not sent."""

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
    """Result of a `deliver-events` workflow, in deliveries, for the Web UI."""

    delivered: int = 0
    exhausted: int = 0
    held: int = 0
    """Left to the drain of their subscription."""
    retrying: int = 0
    """Go on as an activity `deliver-webhook` each."""


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
