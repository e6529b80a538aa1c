"""The delivery protocol as a small model: every interleaving of its steps, with a crash after each, explored whole.

Two events, two relays and two workers; one subscription, whose receiver always answers well. The steps carry the names
of docs/delivery-protocol.md and of the code: accept, answer (api/events/intake.py), claim, start (relay/relay.py),
match, request, outcome (activities/), complete (workflows/deliver.py). What a process knows is lost when it crashes;
what is committed or started is not. What comes after the first attempt is explored by `tests/model/lifecycle.py`.
`python -m tests.model.protocol` prints how many states there are.
"""

from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

EVENTS = (0, 1)
WORKERS = (0, 1)
CRASHES = 2
NOBODY = -1
DEAD = -2
"""In place of a worker that died: its lease has not lapsed yet."""


class Mutation(StrEnum):
    """Faults put into the protocol on purpose; exploring has to find each."""

    NONE = "none"
    BATCH_ANEW = "a lapsed claim is formed anew"
    ANSWER_FIRST = "202 is answered before the commit"
    OUTCOME_FIRST = "the outcome is recorded before the receiver's answer"
    IGNORE_LEASE = "a delivery is sent although another worker's lease on it is live"


class Event(NamedTuple):
    """An event's row and its one delivery's, and what the emitter and the receiver know."""

    arrived: bool = False
    committed: bool = False
    answered: bool = False
    workflow: int = -1
    names: int = 0
    """Different workflow ids that were ever started with it."""
    lease: bool = False
    matched: bool = False
    sender: int = NOBODY
    """The worker whose intent is committed and whose outcome is not."""
    delivered: bool = False
    requests: int = 0
    cut: int = 0
    """Workers that died between request and outcome."""


class Process(NamedTuple):
    """What a relay or a worker has in memory: the workflow it is about, and for a worker the requests it has made."""

    workflow: int = -1
    sent: tuple[int, ...] = ()
    at: str = ""


class State(NamedTuple):
    """Everything at one moment. `started` and `completed` hold workflows; a workflow is a set of events as bits."""

    events: tuple[Event, ...] = (Event(), Event())
    relays: tuple[Process, ...] = (Process(), Process())
    workers: tuple[Process, ...] = (Process(), Process())
    names: tuple[int, ...] = ()
    """Workflow number -> its events, as bits; the number is the id."""
    started: frozenset[int] = frozenset()
    completed: frozenset[int] = frozenset()
    crashes: int = 0


class Violation(Exception):  # noqa: N818 - a finding, not a fault of the program
    """A state the protocol promises not to reach."""


def _set(items: tuple, index: int, **changes: object) -> tuple:
    return (*items[:index], items[index]._replace(**changes), *items[index + 1 :])


def _of(state: State, workflow: int) -> list[int]:
    return [event for event in EVENTS if state.names[workflow] >> event & 1]


def accept_and_answer(state: State, mutation: Mutation) -> Iterator[State]:
    """The API: an event arrives, its row is committed, the caller is answered."""
    for number, event in enumerate(state.events):
        if not event.arrived:
            if event.answered:
                continue  # its caller has no reason to send it again
            yield state._replace(events=_set(state.events, number, arrived=True))
        elif not event.committed:
            yield state._replace(events=_set(state.events, number, committed=True))
            if mutation is Mutation.ANSWER_FIRST and not event.answered:
                yield state._replace(events=_set(state.events, number, answered=True))
        elif not event.answered:
            yield state._replace(events=_set(state.events, number, answered=True))


def claim(state: State, mutation: Mutation) -> Iterator[State]:
    """A relay commits a workflow's id on the events nobody has claimed, or takes a lapsed claim up again."""
    for number, relay in enumerate(state.relays):
        if relay.workflow >= 0:
            continue
        fresh = [e for e in EVENTS if state.events[e].committed and state.events[e].workflow < 0]
        for batch in ([fresh] if fresh else []) + ([[fresh[0]]] if len(fresh) > 1 else []):
            yield _claimed(state, number, batch)
        lapsed = {
            event.workflow for event in state.events if event.workflow >= 0 and not event.lease and not event.matched
        }
        for workflow in sorted(lapsed):
            if mutation is Mutation.BATCH_ANEW:
                yield _claimed(state, number, [e for e in EVENTS if state.events[e].workflow == workflow])
                continue
            events = state.events
            for event in _of(state, workflow):
                events = _set(events, event, lease=True)
            yield state._replace(events=events, relays=_set(state.relays, number, workflow=workflow))


def _claimed(state: State, relay: int, batch: list[int]) -> State:
    workflow = len(state.names)
    events = state.events
    for event in batch:
        events = _set(events, event, workflow=workflow, lease=True)
    bits = sum(1 << event for event in batch)
    relays = _set(state.relays, relay, workflow=workflow)
    return state._replace(events=events, names=(*state.names, bits), relays=relays)


def lapse(state: State, _: Mutation) -> Iterator[State]:
    """A lease runs out: a claim's whose events are not matched (its relay is slow, or dead), or a dead worker's."""
    for number, event in enumerate(state.events):
        if event.lease and not event.matched:
            yield state._replace(events=_set(state.events, number, lease=False))
        if event.sender == DEAD:
            yield state._replace(events=_set(state.events, number, sender=NOBODY))


def start(state: State, _: Mutation) -> Iterator[State]:
    """A relay starts the workflow it claimed for; 'already started' is success."""
    for number, relay in enumerate(state.relays):
        if relay.workflow < 0:
            continue
        events = state.events
        if relay.workflow not in state.started:
            for event in _of(state, relay.workflow):
                events = _set(events, event, names=events[event].names + 1)
        yield state._replace(
            events=events,
            started=state.started | {relay.workflow},
            relays=_set(state.relays, number, workflow=-1),
        )


def work(state: State, mutation: Mutation) -> Iterator[State]:
    """A worker takes a workflow's task, matches, requests, writes the outcome, completes. Temporal gives a task to
    another worker as well when it takes the first for dead, as when the network between the two is cut: a crash."""
    for number, worker in enumerate(state.workers):
        if worker.workflow < 0:
            busy = {other.workflow for other in state.workers}
            for workflow in sorted(state.started - state.completed):
                crashes = state.crashes + (workflow in busy)
                if crashes <= CRASHES:
                    workers = _set(state.workers, number, workflow=workflow, at="match")
                    yield state._replace(crashes=crashes, workers=workers)
        elif worker.at == "match":
            yield _matched(state, number)
        else:
            yield from _attempts(state, number, mutation)


def _matched(state: State, number: int) -> State:
    """Deliveries and the intents of their first attempts, in one transaction; matched before: nothing new."""
    events = state.events
    for event in _of(state, state.workers[number].workflow):
        if not events[event].matched:
            events = _set(events, event, matched=True, lease=False, sender=number)
    return state._replace(events=events, workers=_set(state.workers, number, at="attempt", sent=()))


def _attempts(state: State, number: int, mutation: Mutation) -> Iterator[State]:
    worker = state.workers[number]
    ours = [e for e in EVENTS if state.events[e].sender == number]
    open_events = [e for e in _of(state, worker.workflow) if e in ours or not state.events[e].delivered]
    for event in open_events:
        sender = state.events[event].sender
        leased = sender != NOBODY and mutation is not Mutation.IGNORE_LEASE
        if sender != number and not leased:  # interrupted, and its lease lapsed: the intent of the next attempt
            yield state._replace(events=_set(state.events, event, sender=number))
        elif sender != number:
            continue  # somebody is sending it: wait
        elif mutation is Mutation.OUTCOME_FIRST and not state.events[event].delivered:
            yield state._replace(events=_set(state.events, event, delivered=True))
        elif event not in worker.sent:
            events = _set(state.events, event, requests=state.events[event].requests + 1)
            yield state._replace(events=events, workers=_set(state.workers, number, sent=(*worker.sent, event)))
        else:
            yield state._replace(events=_set(state.events, event, sender=NOBODY, delivered=True))
    if not open_events:
        yield state._replace(
            completed=state.completed | {worker.workflow},
            workers=_set(state.workers, number, workflow=-1, sent=(), at=""),
        )


def crash(state: State, _: Mutation) -> Iterator[State]:
    """A process dies after any step: the API loses what is not committed, a relay and a worker what they remember."""
    if state.crashes >= CRASHES:
        return
    after = state._replace(crashes=state.crashes + 1)
    if any(event.arrived and not event.committed for event in state.events):
        events = tuple(event._replace(arrived=event.committed) for event in state.events)
        yield after._replace(events=events)
    for number, relay in enumerate(state.relays):
        if relay.workflow >= 0:
            yield after._replace(relays=_set(state.relays, number, workflow=-1))
    for number, worker in enumerate(state.workers):
        if worker.workflow >= 0:
            events = state.events
            for event in EVENTS:
                if events[event].sender == number:
                    cut = events[event].cut + (event in worker.sent)
                    events = _set(events, event, cut=cut, sender=DEAD)
            yield after._replace(events=events, workers=_set(state.workers, number, workflow=-1, sent=(), at=""))


STEPS: tuple[Callable[[State, Mutation], Iterator[State]], ...] = (accept_and_answer, claim, lapse, start, work)


def check(state: State) -> None:
    """The invariants of every state."""
    for number, event in enumerate(state.events):
        if event.answered and not event.committed and not event.arrived:
            raise Violation(f"event {number} was answered with 202 and is lost")
        if event.names > 1:
            raise Violation(f"event {number} was handed over under {event.names} names")
        if event.requests > 1 + event.cut:
            raise Violation(f"event {number} was sent {event.requests} times, {event.cut} of them cut off by a crash")


def check_end(state: State) -> None:
    """The promise, where nothing is left to do."""
    for number, event in enumerate(state.events):
        if event.answered and not (event.delivered and event.requests):
            raise Violation(f"event {number} was accepted and never delivered")


def nameless(state: State) -> State:
    """The state that stands for those which differ in nothing but which relay or worker is called which."""
    if state.relays[1] < state.relays[0]:
        state = state._replace(relays=state.relays[::-1])
    if state.workers[1] < state.workers[0]:
        events = tuple(one._replace(sender=1 - one.sender) if one.sender in WORKERS else one for one in state.events)
        state = state._replace(workers=state.workers[::-1], events=events)
    return state


def explore(mutation: Mutation = Mutation.NONE) -> int:
    """Visit every state that can be reached; how many there are. Raises `Violation`."""
    first = State()
    seen = {first}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        check(state)
        onward = [after for step in STEPS for after in step(state, mutation)]
        if not onward:
            check_end(state)
        for after in (*onward, *crash(state, mutation)):
            if (named := nameless(after)) not in seen:
                seen.add(named)
                queue.append(named)
    return len(seen)


if __name__ == "__main__":
    print(f"{explore():,} states, every one as promised")
