"""What emitter, receiver and executioner wrote down: the facts that the verdict is made of.

All instants are seconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine.
"""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

NETWORK_KINDS = ("cut", "cut outgoing", "cut incoming", "loss", "delay", "reset")
LASTING_KINDS = (*NETWORK_KINDS, "fill")
"""Kinds of disturbances during which nothing is promised to go through."""


@dataclass(frozen=True)
class Emitted:
    """An event the API answered with 202. `sent_at` is when it was first sent."""

    event_id: str
    event_name: str
    sent_at: float
    accepted_at: float
    tries: int = 1


@dataclass(frozen=True)
class Arrival:
    """A request at the receiver. `ended_at` is when its answer was written, or the connection broken or given up.

    `told`: the whole answer was handed to the network while the sender's end of the connection was still there.
    """

    path: str
    event_id: str
    message_id: str
    arrived_at: float
    ended_at: float | None
    kind: str
    status: int | None
    retry_after: int | None = None
    told: bool = False
    arrived_after: float | None = None
    """An instant before it could be read at the receiver; None: `arrived_at`."""

    @property
    def span(self) -> tuple[float, float]:
        """The instants between which it arrived."""
        return self.arrived_at if self.arrived_after is None else self.arrived_after, self.arrived_at

    @property
    def succeeded(self) -> bool:
        """A 2xx that could be read."""
        return self.told and self.status is not None and 200 <= self.status <= 299


@dataclass(frozen=True)
class Disturbance:
    """Something that was done to the stack. `over_at` is when it was undone: SIGCONT, or the old worker's end;
    `process_seconds`, how long after a kill the process that took its place was ready."""

    kind: str
    target: str
    began_at: float
    over_at: float
    detail: str = ""
    process_seconds: float | None = None
    failed_writes: int | None = None
    """How many writes to a full disk the server has logged as failed; None for anything else."""

    @property
    def name(self) -> str:
        """As it is counted."""
        return f"{self.kind} {self.target}"

    @property
    def worker(self) -> str:
        """Name of the worker that it was done to, or "" for none. The detail begins with it."""
        name, _, _ = self.detail.partition(",")
        return name if self.target.startswith("worker") else ""

    @property
    def back_at(self) -> float:
        """When what it was done to was there again."""
        return self.over_at if self.process_seconds is None else self.began_at + self.process_seconds


@dataclass(frozen=True)
class Attempt:
    """What our own log says of an attempt, and the name of the worker that made it; "" for an unknown one."""

    outcome: str
    worker: str = ""
    written_at: float | None = None
    """When the outcome was written; None: never."""


@dataclass(frozen=True)
class Ledger:
    """Everything about one run."""

    emitted: tuple[Emitted, ...]
    arrivals: tuple[Arrival, ...]
    disturbances: tuple[Disturbance, ...] = ()
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Event name -> paths of the subscriptions to it."""
    unavailable: tuple[float, ...] = ()
    """When an emit was answered with 503."""

    def by_delivery(self, path: str | None = None) -> dict[tuple[str, str], list[Arrival]]:
        """(path, event id) -> its requests in the order of arrival; of one path or of all."""
        found: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        for arrival in sorted(self.arrivals, key=lambda one: one.arrived_at):
            if path is None or arrival.path == path:
                found[arrival.path, arrival.event_id].append(arrival)
        return found

    @cached_property
    def sent_at(self) -> dict[str, float]:
        """Event id -> when it was first sent."""
        return {event.event_id: event.sent_at for event in self.emitted}

    @cached_property
    def _good_answers(self) -> list[tuple[float, str]]:
        return sorted(
            (one.ended_at, one.event_id) for one in self.arrivals if one.succeeded and one.ended_at is not None
        )

    def good_answers_since(self, instant: float) -> Iterator[tuple[str, float]]:
        """Return (event id, when it ended) of each good answer from an instant on, in order."""
        first = bisect_left(self._good_answers, (instant, ""))
        return ((event_id, at) for at, event_id in islice(self._good_answers, first, None))

    def expected(self) -> list[tuple[str, Emitted]]:
        """(path, event) of every delivery that is owed."""
        return [(path, event) for event in self.emitted for path in self.paths.get(event.event_name, ())]


def read_arrivals(lines: Iterable[str]) -> list[Arrival]:
    """Arrivals from the receiver's lines: one when a request has come, another when it has ended."""
    begun: dict[int, dict[str, object]] = {}
    for line in lines:
        facts = json.loads(line)
        begun.setdefault(facts.pop("n"), {"ended_at": None}).update(facts)
    return [Arrival(**facts) for facts in begun.values()]  # type: ignore[arg-type]
