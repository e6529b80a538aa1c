"""The life of one delivery as a small model: every interleaving of its owners' steps, with a crash after each.

Every change of the row is looked up in `domain.delivery.lifecycle.TRANSITIONS`, the table that the statements of the
product carry out. A delivery is owned by the workflow `deliver-events` until its first attempt has an outcome, then by
one standalone activity whose id the outcome's transaction commits, or, once held, by its subscription's drain. Beside
them a person acts, `reconcile` starts an owner that is missing, and the drain's watchdog starts a missing drain.
`tests/model/protocol.py` explores the way from the emit to the match. `python -m tests.model.lifecycle` prints how many
states there are.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from domain.delivery.lifecycle import OPEN, TERMINAL, TRANSITIONS, Cause, DeliveryStatus, SubscriptionStatus

RETRIES = 1
"""Attempts that the schedule allows after the first."""


class Mutation(StrEnum):
    """Faults put into the protocol on purpose; exploring has to find each."""

    NONE = "none"
    START_FIRST = "the activity is started before its id is committed"
    BOTH_OWN = "the activity goes on with a delivery that is held"
    BACK_TO_PENDING = "an outcome to be retried makes a held delivery pending"
    NO_RECONCILE = "nobody starts an owner that is missing"
    NO_INTENT = "requests are made without an intent"
    LATE_FAILURE = "a failure counts although the delivery was recovered after its attempt had begun"


class Owner(IntEnum):
    """Who makes attempts. All but `PERSON` own the delivery in turn."""

    WORKFLOW = 0
    ACTIVITY = 1
    DRAIN = 2
    PERSON = 3
    """The workflow of a redelivery, or of a send-now of a pending delivery."""


class Lease(Enum):
    """In place of the owner whose intent is open."""

    FREE = "no intent is open, or the lease of the open one has lapsed"
    DEAD = "its worker died, and the lease has not lapsed"


class Answer(StrEnum):
    """What the receiver made of a request."""

    GOOD = "2xx"
    BAD = "5xx"
    GONE = "410"
    LAST = "2xx with webhook-delivery: disable"
    NO_BODY = "no request was made: the event's data is erased"


class Process(NamedTuple):
    """What the worker of an owner has in memory during an attempt; lost when it crashes."""

    owner: Owner
    activity_id: int
    stage: str
    """read, intended, requested, started (only with START_FIRST)"""
    number: int
    recorded: int
    failures: int
    answer: Answer | None = None


class State(NamedTuple):
    """Everything at one moment: the row, its subscription, what Temporal runs, and what processes remember."""

    status: DeliveryStatus | None = None
    attempts: int = 0
    failures: int = 0
    last: int = 0
    """Number of the last intent."""
    recovered: int = 0
    """Number of the last intent when a person recovered it."""
    retry_id: int = 0
    """Committed id of the standalone activity: attempts when it was written. 0: none."""
    due: bool = True
    lease: Owner | Lease = Lease.FREE

    subscription: SubscriptionStatus = SubscriptionStatus.ACTIVE
    limited: bool = False
    """Its breaker is open, or it has a limit or an order: only the drain sends."""
    deleted: bool = False
    erased: bool = False

    workflow: bool = True
    """`deliver-events` is running, with its local activity or with `schedule-retries`."""
    activities: tuple[int, ...] = ()
    """Ids of the standalone activities that have not completed."""
    drain: bool = False
    person: bool = False
    """A redelivery or a send-now is running."""

    processes: tuple[Process, ...] = ()
    wake: bool = False
    """A process has committed a change and is about to wake the drain."""

    acts: int = 0
    crashes: int = 0
    good: int = 0
    """Requests that the receiver has answered with a 2xx."""
    cut: int = 0
    """Of these, those whose worker died before the outcome was written."""
    asked: int = 0
    """Times a person asked for one more delivery."""


class Violation(Exception):  # noqa: N818 - a finding, not a fault of the program
    """A state the protocol promises not to reach."""


Key: TypeAlias = tuple[DeliveryStatus | None, DeliveryStatus, Cause]

ROWS = frozenset((row.source, row.target, row.cause) for row in TRANSITIONS)

_PENDING, _HELD = OPEN
_DELIVERED, _EXHAUSTED, _CANCELLED = TERMINAL
_SUCCESSES = (Answer.GOOD, Answer.LAST)

NOT_EXPLORED: Mapping[Key, str] = MappingProxyType(
    {
        (None, _PENDING, Cause.SEND_TEST): "a test is attempted once, by a workflow of its own, and never retried",
        (_PENDING, _CANCELLED, Cause.LOSE_TEST): "ends a test that no workflow was started for",
        (None, _HELD, Cause.BACKFILL): "from then on the same as a match while the subscription is limited",
        (None, _HELD, Cause.ADOPT): "from then on the same as a match while the subscription is paused",
        (_PENDING, _CANCELLED, Cause.SWITCH_OVER): "one statement of a person's, as cancel",
        (_HELD, _CANCELLED, Cause.SWITCH_OVER): "one statement of a person's, as cancel",
        (_PENDING, _CANCELLED, Cause.ERASED_BODY): "an erasure cancels what is pending: needs retention days shorter "
        "than the retry schedule; the same outcome as of a held delivery, which is explored",
        (_PENDING, _PENDING, Cause.RETRY): "gives an id to a first attempt without an outcome; its activity waits for "
        "that attempt or makes the next, as a second execution of the workflow does",
        (_EXHAUSTED, _CANCELLED, Cause.CANCEL): "concerns the successors of an ordered subscription",
        (_EXHAUSTED, _EXHAUSTED, Cause.RELEASE_ORDER): "concerns the successors of an ordered subscription",
        (_HELD, _HELD, Cause.ASSIGN_ORDER_KEY): "concerns the predecessors of an ordered subscription",
    }
)
"""Rows of the table that this model leaves out, with the reason."""


class Exploration:
    """A search through all states that can be reached, and the transitions met on the way."""

    def __init__(self, mutation: Mutation, acts: int, crashes: int) -> None:
        self._mutation = mutation
        self._acts = acts
        self._crashes = crashes
        self.exercised: set[Key] = set()
        self.states = 0

    def run(self) -> None:
        """Visit every state. Raises `Violation`."""
        seen = {State()}
        queue = deque(seen)
        while queue:
            state = queue.popleft()
            check(state)
            onward = list(self._steps(state))
            if not onward:
                check_end(state)
            if state.acts < self._acts:
                onward += self._person_acts(state)
            if state.crashes < self._crashes:
                onward += crashes_of(state)
            for after in onward:
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
        self.states = len(seen)

    def _to(self, state: State, target: DeliveryStatus, cause: Cause, **changes: object) -> State:
        """Change the row, which has to be a transition of the table."""
        key = (state.status, target, cause)
        if key not in ROWS:
            raise Violation(f"no transition of the table: {key}")
        self.exercised.add(key)
        return state._replace(status=target, **changes)

    def _steps(self, state: State) -> Iterator[State]:
        """What goes on by itself."""
        if state.lease is Lease.DEAD:
            yield state._replace(lease=Lease.FREE)
        if state.status in OPEN and not state.due:
            yield state._replace(due=True)
        if state.wake:
            yield state._replace(wake=False, drain=True)
        if self._mutation is not Mutation.NO_RECONCILE:
            yield from _reconcile(state)
        for process in state.processes:
            yield from self._go_on(state, process)
        busy = {(process.owner, process.activity_id) for process in state.processes}
        if state.workflow and (Owner.WORKFLOW, 0) not in busy:
            yield from self._workflow(state)
        for one in state.activities:
            if (Owner.ACTIVITY, one) not in busy:
                yield from self._activity(state, one)
        if state.drain and (Owner.DRAIN, 0) not in busy:
            yield from self._drain(state)
        if state.person and (Owner.PERSON, 0) not in busy:
            yield state._replace(person=False) if _taken(state) else _read(state, Owner.PERSON)

    def _workflow(self, state: State) -> Iterator[State]:
        """Match with the first intent; attempt again what was interrupted; `schedule-retries`, and complete."""
        if state.status is None:
            yield self._match(state)
        elif state.status is _PENDING and not state.retry_id:
            if not _taken(state):
                yield self._without_attempt(state) or _read(state, Owner.WORKFLOW)
        elif state.status is _PENDING and state.retry_id not in state.activities:
            # With START_FIRST it was started before.
            started = () if self._mutation is Mutation.START_FIRST else (state.retry_id,)
            yield state._replace(workflow=False, activities=(*state.activities, *started))
        else:
            yield state._replace(workflow=False, drain=state.drain or (state.status is _HELD and not _paused(state)))

    def _match(self, state: State) -> State:
        if state.deleted or state.erased:
            return state._replace(workflow=False)
        if state.subscription is SubscriptionStatus.DISABLED:
            return self._to(state, _EXHAUSTED, Cause.MATCH)
        if _paused(state) or state.limited:
            return self._to(state, _HELD, Cause.MATCH)
        first = Process(Owner.WORKFLOW, 0, "intended", 1, 0, 0)
        return self._to(state, _PENDING, Cause.MATCH, last=1, lease=Owner.WORKFLOW, processes=(first,))

    def _activity(self, state: State, identity: int) -> Iterator[State]:
        """`deliver-webhook`: complete if the row has changed, else attempt when it is due."""
        left = tuple(one for one in state.activities if one != identity)
        statuses = OPEN if self._mutation is Mutation.BOTH_OWN else (_PENDING,)
        if state.status not in statuses or state.retry_id != identity:
            yield state._replace(activities=left)
        elif not _taken(state):
            without = self._without_attempt(state)
            if without is not None:
                yield without._replace(activities=left)
            elif state.due:
                yield _read(state, Owner.ACTIVITY, identity)

    def _without_attempt(self, state: State) -> State | None:
        """End or hold a pending delivery whose subscription is not to be sent to; None when it is."""
        if state.status is not _PENDING:
            return None
        if state.deleted:
            return self._to(state, _CANCELLED, Cause.DELETE)
        if state.subscription is SubscriptionStatus.DISABLED:
            return self._to(state, _EXHAUSTED, Cause.DISABLE)
        if _paused(state) or state.limited:
            return self._to(state, _HELD, Cause.SUSPEND, wake=state.wake or not _paused(state))
        return None

    def _drain(self, state: State) -> Iterator[State]:
        """`drain-subscription`: end, or attempt what is held when it is due; stop when there is nothing to do."""
        if state.status is not _HELD or _paused(state):
            yield state._replace(drain=False)
        elif state.deleted:
            yield self._to(state, _CANCELLED, Cause.DELETE)
        elif state.subscription is SubscriptionStatus.DISABLED:
            yield self._to(state, _EXHAUSTED, Cause.DISABLE)
        elif not _taken(state) and state.due:
            yield _read(state, Owner.DRAIN)
            if state.limited:
                yield self._to(state, _EXHAUSTED, Cause.OUTWAIT)

    def _go_on(self, state: State, process: Process) -> Iterator[State]:
        """The next step of an attempt."""
        if process.stage == "read":
            yield self._intended(state, process)
        elif process.stage == "intended":
            yield from self._requested(state, process)
        elif process.stage == "requested" and self._starts_first(state, process):
            started = _with(state, process, process._replace(stage="started"))
            yield started._replace(activities=(*state.activities, process.number))
        else:
            yield self._disabled(self._recorded(_with(state, process, None), process), process.answer)

    def _intended(self, state: State, process: Process) -> State:
        """Write the intent, unless somebody else has, an outcome was written, or the delivery has ended."""
        by_person = process.owner is Owner.PERSON
        stale = process.recorded != state.attempts or not (by_person or state.status in OPEN)
        if self._mutation is Mutation.NO_INTENT:
            return _with(state, process, process._replace(stage="intended"))
        if stale or process.number <= state.last:
            return _with(state, process, None)
        intended = _with(state, process, process._replace(stage="intended"))
        return intended._replace(last=process.number, lease=process.owner)

    def _requested(self, state: State, process: Process) -> Iterator[State]:
        """Make the request, or take an intent back that was written with the match."""
        if process.owner is Owner.WORKFLOW and process.number == 1:
            withdrawn = self._without_attempt(state)
            if withdrawn is not None:
                yield _with(withdrawn, process, None)._replace(last=0, lease=Lease.FREE)
                return
        if state.erased:
            yield _with(state, process, process._replace(stage="requested", answer=Answer.NO_BODY))
            return
        for answer in (Answer.GOOD, Answer.BAD, Answer.GONE, Answer.LAST):
            after = _with(state, process, process._replace(stage="requested", answer=answer))
            yield after._replace(good=state.good + (answer in _SUCCESSES))

    def _starts_first(self, state: State, process: Process) -> bool:
        return (
            self._mutation is Mutation.START_FIRST
            and process.owner is Owner.WORKFLOW
            and process.answer is Answer.BAD
            and process.failures < RETRIES
            and state.status is _PENDING
        )

    def _disabled(self, state: State, answer: Answer | None) -> State:
        """Disable the subscription in the transaction of the outcome, if the receiver wants no more."""
        if answer not in (Answer.GONE, Answer.LAST) or state.deleted:
            return state
        disabled = state._replace(subscription=SubscriptionStatus.DISABLED)
        return self._to(disabled, _EXHAUSTED, Cause.DISABLE) if state.status in OPEN else disabled

    def _recorded(self, state: State, process: Process) -> State:  # noqa: PLR0911 one return a row of the table
        """Write the outcome, and with it the activity's id if the delivery goes on waiting."""
        if state.lease is process.owner:
            state = state._replace(lease=Lease.FREE)
        if process.owner is Owner.PERSON:
            state = state._replace(person=False)
        attempts = max(state.attempts, process.number)
        assert state.status is not None
        if process.answer in _SUCCESSES:
            return self._to(state, _DELIVERED, Cause.SUCCESS, attempts=attempts)
        if process.owner is Owner.PERSON:
            return self._to(state, state.status, Cause.MANUAL_FAILURE, attempts=attempts)
        late = process.number <= state.recovered and self._mutation is not Mutation.LATE_FAILURE
        if state.status not in OPEN or process.number < state.attempts or late:
            return state
        if process.number <= state.recovered:
            raise Violation("a failure from before the recovery counts")
        if process.answer is Answer.NO_BODY:
            return self._to(state, _CANCELLED, Cause.ERASED_BODY, attempts=attempts)
        if process.answer is Answer.GONE or process.failures >= RETRIES:
            return self._to(state, _EXHAUSTED, Cause.FINAL_FAILURE, attempts=attempts)
        if state.status is _PENDING and state.limited:  # stands for too many retries that fall due together
            held = {"attempts": attempts, "failures": process.failures + 1, "due": False, "retry_id": 0}
            return self._to(state, _HELD, Cause.FAILURE, **held)
        target = _PENDING if self._mutation is Mutation.BACK_TO_PENDING else state.status
        retry_id = state.retry_id or (attempts if state.status is _PENDING else 0)
        changes = {"attempts": attempts, "failures": process.failures + 1, "due": False, "retry_id": retry_id}
        return self._to(state, target, Cause.FAILURE, **changes)

    def _person_acts(self, state: State) -> Iterator[State]:
        """What a person, or the receiver's health, does to the subscription, the event or the delivery."""
        acted = state._replace(acts=state.acts + 1)
        if not state.deleted:
            yield from self._on_subscription(acted)
        if not state.erased:
            erased = acted._replace(erased=True)
            yield self._to(erased, _CANCELLED, Cause.ERASE) if state.status in OPEN else erased
        if state.status in OPEN:
            yield self._to(acted, _CANCELLED, Cause.CANCEL)
        if state.status is not None and not state.person:  # send now, or redeliver
            yield acted._replace(person=True, asked=state.asked + 1)
        if state.status in TERMINAL:
            changes = {"failures": 0, "due": True, "wake": True, "asked": state.asked + 1, "recovered": state.last}
            yield self._to(acted, _HELD, Cause.RECOVER, attempts=max(state.attempts, state.last), **changes)

    def _on_subscription(self, acted: State) -> Iterator[State]:
        ended = acted._replace(deleted=True)
        yield self._to(ended, _CANCELLED, Cause.DELETE) if acted.status in OPEN else ended
        yield acted._replace(limited=not acted.limited)
        if acted.subscription is SubscriptionStatus.ACTIVE:
            yield acted._replace(subscription=SubscriptionStatus.PAUSED)
            disabled = acted._replace(subscription=SubscriptionStatus.DISABLED)
            yield self._to(disabled, _EXHAUSTED, Cause.DISABLE) if acted.status in OPEN else disabled
        else:
            yield acted._replace(subscription=SubscriptionStatus.ACTIVE, wake=True)


def _paused(state: State) -> bool:
    return state.subscription is SubscriptionStatus.PAUSED and not state.deleted


def _taken(state: State) -> bool:
    """Whether an attempt is under way, or its worker not yet known to be dead."""
    return state.lease is not Lease.FREE


def _owner(state: State) -> Owner | None:
    """Who is to attempt the delivery, by its row."""
    if state.status is _HELD:
        return Owner.DRAIN
    if state.status is not _PENDING:
        return None
    return Owner.ACTIVITY if state.retry_id else Owner.WORKFLOW


def _read(state: State, owner: Owner, activity_id: int = 0) -> State:
    if owner is not Owner.PERSON and owner is not _owner(state):
        raise Violation(f"two own it: it is attempted by {owner.name}, and the row names {_owner(state)}")
    process = Process(owner, activity_id, "read", state.last + 1, state.attempts, state.failures)
    return state._replace(processes=tuple(sorted((*state.processes, process))))


def _with(state: State, process: Process, after: Process | None) -> State:
    others = [one for one in state.processes if one != process]
    return state._replace(processes=tuple(sorted([*others, *([after] if after is not None else [])])))


def _reconcile(state: State) -> Iterator[State]:
    """Start the owner that the row names and that does not run; the drain's watchdog is the same for what is held."""
    if state.status in (None, _PENDING) and not state.retry_id and not state.workflow:
        if state.status is _PENDING or not (state.deleted or state.erased):
            yield state._replace(workflow=True)
    elif state.status is _PENDING and state.retry_id and state.retry_id not in state.activities:
        yield state._replace(activities=(*state.activities, state.retry_id))
    elif state.status is _HELD and not state.drain and not _paused(state):
        yield state._replace(drain=True)


def crashes_of(state: State) -> Iterator[State]:
    """A worker dies in the middle of an attempt; a process dies before it wakes the drain; Temporal is restored from an
    older state, and an owner that was running is not there any more."""
    after = state._replace(crashes=state.crashes + 1)
    for process in state.processes:
        died = _with(after, process, None)
        if state.lease is process.owner and process.stage != "read":
            died = died._replace(lease=Lease.DEAD)
        yield died._replace(cut=state.cut + (process.answer in _SUCCESSES))
    if state.wake:
        yield after._replace(wake=False)
    if not state.processes:
        if state.workflow:
            yield after._replace(workflow=False)
        if state.activities:
            yield after._replace(activities=())
        if state.drain:
            yield after._replace(drain=False)


def check(state: State) -> None:
    """The invariants of every state."""
    if state.activities.count(state.retry_id) > 1:
        raise Violation("two activities own it")
    sending = [one.owner for one in state.processes if one.stage in ("intended", "requested", "started")]
    if len(sending) > 1:
        raise Violation(f"two send it at once: {sending}")
    if state.good > 1 + state.cut + state.asked:
        raise Violation(f"the receiver got it {state.good} times, {state.cut} of them cut off by a crash")
    if not state.crashes and not _is_owned(state):
        raise Violation("nobody owns it although nothing crashed")


def _is_owned(state: State) -> bool:
    """Whether somebody will go on with the delivery without being reconciled."""
    if state.status not in OPEN:
        return True
    if state.workflow:
        return True
    if state.status is _PENDING:
        return state.retry_id in state.activities
    return state.drain or state.wake or _paused(state)


def check_end(state: State) -> None:
    """The promise, where nothing is left to do."""
    unmatched = state.status is None and not (state.deleted or state.erased)
    if unmatched or (state.status in OPEN and not _paused(state)):
        raise Violation(f"it is lost: {state.status}, and nobody goes on with it")


BOUNDS: tuple[tuple[int, int], ...] = ((2, 1), (1, 2))
"""(acts, crashes) of the searches: together they take some seconds, and every transition is met in one of them."""


def explore(mutation: Mutation = Mutation.NONE) -> tuple[int, set[Key]]:
    """Return how many states there are, and the transitions met. Raises `Violation`."""
    states, exercised = 0, set[Key]()
    for acts, crashes in BOUNDS:
        exploration = Exploration(mutation, acts, crashes)
        exploration.run()
        states += exploration.states
        exercised |= exploration.exercised
    return states, exercised


if __name__ == "__main__":
    print(f"{explore()[0]:,} states, every one as promised")
