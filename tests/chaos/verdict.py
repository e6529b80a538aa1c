"""What a ledger proves: pure functions, one for each promise."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from types import MappingProxyType
from uuid import UUID

from domain.delivery.retry import retry_delay
from sending.http.pool import SENT_AGAIN_SECONDS
from tests.chaos.ledger import LASTING_KINDS, NETWORK_KINDS, Arrival, Attempt, Disturbance, Emitted, Ledger

UNFLUSHED_SECONDS = 0.02
"""Outcomes of so long may not have been written when a process dies."""

NOTICED_SECONDS = 0.25
"""Between the receiver's last byte and the sender's reading it on a machine with two busy cores; beside the former."""

NOTICED_BESIDE_TESTS_SECONDS = 3.0
"""The same where other tests compete for the processor: there, requests answered up to a second before a kill were
repeated. That the outcome of a repeated request was not written is a promise of its own, decided by our log."""

RECONNECTED_SECONDS = 12.0
"""After a worker was cut from its database, or slowed down, for its outcomes to be written: a statement on a connection
that is dead waits for 10 s (`worker.STATEMENT_SECONDS`), and the worker's lease has lapsed meanwhile."""

UNWRITTEN_SECONDS = 3.0
"""The same, where our log has no outcome of the attempt, or one that was written after what happened to its worker."""

READ_SECONDS = 1.0
"""Between a sender's reading a delivery and its request, on a busy machine. An outcome written then is too late."""

REQUEST_SECONDS = 4
"""The time-out of a request in a run: after a network's fault, for the requests of that time to have come or failed."""

AGAIN_AT_ONCE_SECONDS = 2.5
"""Within which a request comes again that is sent again at once, on a busy machine; a retry takes longer."""

RECOVERED_SECONDS = 10.0
"""Within which events go through again after a kill or the end of what lasts. What lasts and begins meanwhile puts that
off to its own end; what begins later does not."""

AFTERMATH_SECONDS = 10.0
"""After a disturbance a retry is not held to its second: everything may be on its way back."""

SEPARATING_KINDS = tuple(kind for kind in NETWORK_KINDS if kind != "delay")
OF_OUTCOMES = ("worker", "worker/postgres", "receiver", "postgres")
"""Targets in the network between which a response, or its outcome, can be lost."""

MAY_REPEAT = (
    *("kill worker", "stop worker", "kill postgres", "stop postgres", "drop postgres"),
    *(f"{kind} {target}" for target in OF_OUTCOMES for kind in SEPARATING_KINDS),
    *("fill postgres", "kill temporal"),
)
"""What may cost a repeat of what was under way, the likeliest first. A stopped worker counts as a dead one, and others
cannot tell one that is cut from its database from a dead one. A worker that is cut from Temporal alone repeats nothing,
and a network that is slow but whole costs no repeat either."""

OUTCOME_UNKNOWN = (
    *MAY_REPEAT,
    *("stop temporal", "fill temporal", "roll worker", "jump worker", "kill api", "stop api"),
    *(f"delay {target}" for target in OF_OUTCOMES),
    *(f"{kind} {target}" for target in ("worker/temporal", "temporal", "api") for kind in NETWORK_KINDS),
)
"""What a repeat is laid to, the likeliest first, when several happened while its request was under way."""


def lost(ledger: Ledger) -> list[tuple[str, str]]:
    """(path, event id) of accepted events that no successful request brought to a subscription."""
    arrived = {(one.path, one.event_id) for one in ledger.arrivals if one.succeeded}
    return [(path, event.event_id) for path, event in ledger.expected() if (path, event.event_id) not in arrived]


def unowed(ledger: Ledger) -> list[tuple[str, str]]:
    """(path, event id) that came without having been emitted to that subscription."""
    owed = {(path, event.event_id) for path, event in ledger.expected()}
    return sorted({(one.path, one.event_id) for one in ledger.arrivals} - owed)


def renamed(ledger: Ledger) -> list[tuple[str, str]]:
    """(path, event id) that came under more than one messageId."""
    return [key for key, ones in ledger.by_delivery().items() if len({one.message_id for one in ones}) > 1]


@dataclass(frozen=True)
class Duplicate:
    """The same messageId again after a 2xx that could be read, and what was done to the stack just then."""

    path: str
    message_id: str
    answered_at: float
    again_at: float
    cause: Disturbance | None
    """None: nothing explains it."""

    @property
    def answered_before_seconds(self) -> float | None:
        """How long before its cause the good answer was; negative when it was still under way."""
        return None if self.cause is None else self.cause.began_at - self.answered_at


def duplicates(
    ledger: Ledger,
    noticed_seconds: float = NOTICED_SECONDS,
    said_of: Mapping[str, Sequence[Attempt]] = MappingProxyType({}),
) -> list[Duplicate]:
    """Every repeat of a delivery that had arrived well. `said_of`: message id -> what our log says of its attempts."""
    found = []
    for (path, _), arrivals in ledger.by_delivery().items():
        good = next((one for one in arrivals if one.succeeded), None)
        if good is None or good.ended_at is None:
            continue
        for again in arrivals:
            if again.arrived_at > good.ended_at:
                cause = _cause(good, ledger.disturbances, noticed_seconds, said_of.get(again.message_id, ()))
                found.append(Duplicate(path, again.message_id, good.ended_at, again.arrived_at, cause))
    return found


def together(
    ledger: Ledger,
    noticed_seconds: float = NOTICED_SECONDS,
    said_of: Mapping[str, Sequence[Attempt]] = MappingProxyType({}),
) -> list[Duplicate]:
    """Every request that came while an earlier one of its delivery had not ended: two senders at once."""
    found = []
    for (path, _), arrivals in ledger.by_delivery().items():
        for first, again in pairwise(arrivals):
            if first.ended_at is not None and again.arrived_at < first.ended_at - noticed_seconds:
                cause = _cause(first, ledger.disturbances, noticed_seconds, said_of.get(again.message_id, ()))
                found.append(Duplicate(path, again.message_id, first.ended_at, again.arrived_at, cause))
    return found


def _cause(
    request: Arrival, disturbances: Iterable[Disturbance], noticed_seconds: float, attempts: Sequence[Attempt]
) -> Disturbance | None:
    """What made the outcome of a request unknown: it was under way, or not yet written, when that happened, and if it
    happened to one worker, that one had made an attempt before the last."""
    workers = {one.worker for one in attempts[:-1]} or {""}
    ended_at = request.ended_at if request.ended_at is not None else request.arrived_at
    written = [
        one.written_at
        for one in attempts[:-1]
        if one.outcome != "interrupted" and (one.outcome == "delivered") == request.succeeded
        if one.written_at is not None and one.written_at > ended_at - NOTICED_SECONDS
    ]

    def unwritten(disturbance: Disturbance) -> bool:
        if was_under_way(request, disturbance, noticed_seconds):
            return True
        known = len(attempts) > 1 and all(at > disturbance.began_at for at in written)
        return known and 0 <= disturbance.began_at - ended_at <= UNWRITTEN_SECONDS

    met = [
        one
        for one in disturbances
        if one.name in OUTCOME_UNKNOWN and unwritten(one) and ("" in workers or one.worker in {"", *workers})
    ]
    return min(met, key=lambda one: OUTCOME_UNKNOWN.index(one.name), default=None)


def was_under_way(arrival: Arrival, disturbance: Disturbance, noticed_seconds: float = NOTICED_SECONDS) -> bool:
    """Whether a request was under way, or its outcome not yet written, when something was done to the stack."""
    ended_at = arrival.ended_at if arrival.ended_at is not None else float("inf")
    unwritten_until = ended_at + UNFLUSHED_SECONDS + noticed_seconds
    return arrival.arrived_at - noticed_seconds <= _written_at(disturbance) and disturbance.began_at <= unwritten_until


def _written_at(disturbance: Disturbance) -> float:
    """When outcomes were written again. While the database is away they are kept in memory, where the next kill of a
    worker finds them."""
    if disturbance.kind in NETWORK_KINDS and disturbance.target in ("worker", "worker/postgres", "postgres"):
        return disturbance.over_at + RECONNECTED_SECONDS
    return disturbance.back_at if disturbance.target == "postgres" else disturbance.over_at


def under_way(
    ledger: Ledger,
    disturbance: Disturbance,
    noticed_seconds: float = NOTICED_SECONDS,
    repeated: Iterable[Duplicate] = (),
) -> int:
    """How many requests a disturbance met. `repeated`: those of these that it explains count too, though they had been
    answered: our log had no outcome of them when it happened."""
    noticed_by_then = UNFLUSHED_SECONDS + noticed_seconds
    explained = (one.answered_before_seconds or 0.0 for one in repeated if one.cause is disturbance)
    unwritten = sum(before_seconds > noticed_by_then for before_seconds in explained)
    return sum(was_under_way(one, disturbance, noticed_seconds) for one in ledger.arrivals) + unwritten


def inversions(
    ledger: Ledger, path: str, ordering_key_of: Callable[[str], str] = lambda _: ""
) -> list[tuple[str, str]]:
    """(event, earlier event of its line) where the later one was sent before the earlier one had arrived well.

    Earlier means: accepted before the other was first sent, so that no sender can have thought otherwise.
    """
    deliveries = {event_id: arrivals for (_, event_id), arrivals in ledger.by_delivery(path).items()}
    lines: dict[str, list[Emitted]] = defaultdict(list)
    for owed, event in ledger.expected():
        if owed == path and event.event_id in deliveries:
            lines[ordering_key_of(event.event_id)].append(event)
    return [pair for line in lines.values() for pair in _inverted(line, deliveries)]


def _inverted(line: Iterable[Emitted], deliveries: Mapping[str, Sequence[Arrival]]) -> list[tuple[str, str]]:
    events = sorted(line, key=lambda event: event.accepted_at)
    latest: tuple[float, str] = (float("-inf"), "")
    found = []
    earlier = iter(events)
    waiting = next(earlier, None)
    for event in sorted(events, key=lambda one: one.sent_at):
        while waiting is not None and waiting.accepted_at < event.sent_at:
            latest = max(latest, (_arrived_well_at(deliveries[waiting.event_id]), waiting.event_id))
            waiting = next(earlier, None)
        if deliveries[event.event_id][0].arrived_at < latest[0]:
            found.append((event.event_id, latest[1]))
    return found


def _arrived_well_at(arrivals: Sequence[Arrival]) -> float:
    ends = [one.ended_at for one in arrivals if one.succeeded and one.ended_at is not None]
    return min(ends, default=float("inf"))


def latenesses(ledger: Ledger, path: str) -> list[float]:
    """Seconds from the 202 to the first request, of each delivery that came."""
    deliveries = ledger.by_delivery(path)
    return [
        max(0.0, deliveries[path, event.event_id][0].arrived_at - event.accepted_at)
        for owed, event in ledger.expected()
        if owed == path and (path, event.event_id) in deliveries
    ]


@dataclass(frozen=True)
class Retry:
    """A retry after a failure, `error` seconds after its instant (negative: too early).

    `disturbed`: something was done to the stack between the request that failed and the retry, or just before.
    """

    path: str
    message_id: str
    error: float
    disturbed: bool
    outcome_unknown: bool
    """The failed request was under way, or its outcome not yet written, when something was done to the stack."""


def retries(
    ledger: Ledger,
    path: str,
    schedule: Sequence[int],
    said_of: Mapping[str, Sequence[Attempt]] = MappingProxyType({}),
) -> list[Retry]:
    """Each retry of a subscription against the instant that its schedule, or the receiver's Retry-After, names.
    `said_of` as for `duplicates`."""
    found = []
    for arrivals in ledger.by_delivery(path).values():
        failures, repeated = 0, False
        for failed, again in pairwise(arrivals):
            repeated = not repeated and _is_sent_again(failed, again)
            if repeated or failed.succeeded or failed.ended_at is None or failed.kind in ("ok", "slow"):
                continue
            failures += 1
            after = None if failed.retry_after is None else float(failed.retry_after)
            delay = retry_delay(schedule, failures, UUID(failed.message_id), after)
            if delay is None:
                continue
            due_at = failed.ended_at + delay
            until = max(again.arrived_at, due_at)
            attempts = said_of.get(failed.message_id, ())
            found.append(
                Retry(
                    path,
                    failed.message_id,
                    again.arrived_at - due_at,
                    disturbed=any(_overlaps(one, failed.arrived_at, until) for one in ledger.disturbances),
                    outcome_unknown=_cause(failed, ledger.disturbances, NOTICED_SECONDS, attempts) is not None,
                )
            )
    return found


def _is_sent_again(failed: Arrival, again: Arrival) -> bool:
    """Whether both are one attempt: its connection was closed at once without an answer, as if it had been stale."""
    if failed.status is not None or failed.ended_at is None:
        return False
    closed_at_once = failed.ended_at - failed.arrived_at < SENT_AGAIN_SECONDS
    return closed_at_once and again.arrived_at - failed.ended_at < AGAIN_AT_ONCE_SECONDS


def _overlaps(disturbance: Disturbance, begin: float, end: float) -> bool:
    return disturbance.began_at <= end and begin <= disturbance.back_at + AFTERMATH_SECONDS


def most_in_a_second(instants: Iterable[float]) -> int:
    """The most of these instants within any one second."""
    ordered = sorted(instants)
    most = first = 0
    for last, instant in enumerate(ordered):
        while instant - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def surely_in_a_second(spans: Iterable[tuple[float, float]]) -> int:
    """The most of these arrivals within any one second, each counted only if its whole span lies in it."""
    ordered = sorted(spans)
    most = 0
    for first, (begin, _) in enumerate(ordered):
        within = takewhile(lambda span, end=begin + 1: span[0] < end, islice(ordered, first, None))
        most = max(most, sum(latest < begin + 1 for _, latest in within))
    return most


def overshoot(ledger: Ledger, path: str, limit: int) -> float:
    """By what part a rate limit was surely overshot in its worst second, over all workers; 0 when it was kept. Requests
    that a fault of the network held up are left out: what it lets through at once was not sent at once."""
    held_up = [
        (one.began_at, one.over_at + REQUEST_SECONDS)
        for one in ledger.disturbances
        if one.kind in NETWORK_KINDS and one.target in ("worker", "receiver")
    ]
    most = surely_in_a_second(
        one.span
        for one in ledger.arrivals
        if one.path == path and not any(begin <= one.arrived_at <= end for begin, end in held_up)
    )
    return max(0.0, (most - limit) / limit)


def recovery(ledger: Ledger, disturbance: Disturbance) -> float | None:
    """Seconds from a disturbance, or from the end of one that lasts, to the first good answer to an event that was
    emitted after that instant; None if none was emitted. Others that last and overlap count with it, to the latest end.
    """
    since = disturbance.over_at if disturbance.kind in LASTING_KINDS else disturbance.began_at
    others = [one for one in ledger.disturbances if one.kind in LASTING_KINDS and one is not disturbance]
    while True:
        answers = ledger.good_answers_since(since)
        until = next((at for event_id, at in answers if ledger.sent_at.get(event_id, 0.0) >= since), None)
        if until is None:
            return None
        open_until = min(until, since + RECOVERED_SECONDS)
        over_at = max((one.back_at for one in others if one.began_at <= open_until), default=since)
        if over_at <= since:
            return until - since
        since = over_at


def fills_unnoticed(ledger: Ledger) -> int:
    """How many times a disk was full and the server logged no failed write, or, if PostgreSQL's, no emit was answered
    with 503."""

    def noticed(fill: Disturbance) -> bool:
        refused = any(fill.began_at <= at <= fill.over_at for at in ledger.unavailable)
        return (fill.failed_writes is None or fill.failed_writes > 0) and (fill.target != "postgres" or refused)

    return sum(not noticed(one) for one in ledger.disturbances if one.kind == "fill")


def flow_gap(ledger: Ledger, disturbance: Disturbance) -> float | None:
    """Seconds from a disturbance to the next good answer of any kind; None without one."""
    return next((at - disturbance.began_at for _, at in ledger.good_answers_since(disturbance.began_at)), None)


def quantile(values: Iterable[float], part: float) -> float | None:
    """The value below which this part of the values lies; None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None
