"""What is done to the stack when: drawn from the seed before the run begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, zip_longest
from random import Random

from tests.chaos.ledger import NETWORK_KINDS

COMPONENTS = ("api", "worker", "temporal", "postgres")
STOPPED = ("worker", "worker", "api", "temporal", "postgres")
"""Components a stop is drawn from, workers twice as often as others."""

SECONDS_APART = 7.0
"""On average, at most; a component that was killed is back by then."""

QUIET_START = 0.2
"""The part of the load's time before the first action: retries are timed where nothing disturbs them."""

QUIET_MIDDLE = 22.0
"""Seconds between the two halves of the actions, for the same purpose, in a run of LONG_SECONDS and more."""

LONG_SECONDS = 100.0

QUIET_END = 8.0
"""Before the end of the load: what is measured after a kill needs events that come after it."""

STOP_SECONDS = (1.5, 4.5)
"""Shorter and longer than the lease of 3 s after which a worker counts as dead."""

CLOCK_JUMP_SECONDS = (-7200, -90, 90, 7200)

ENDS = ("api", "postgres", "temporal", "receiver", "worker/postgres", "worker/temporal", "worker")
"""Processes that are cut off everybody, and pairs that are cut off each other: the split brain, and the worker that
Temporal takes for dead."""

FAULTS = [(kind, end) for kind in NETWORK_KINDS for end in ENDS]
"""Each seed takes the next ones of these: ten seeds have all."""

Random("faults").shuffle(FAULTS)

NETWORK_SECONDS = (2.0, 9.0)
"""Shorter and longer than a lease (3 s), and than the time-outs of tasks and heartbeats (5 s)."""

FULL_SECONDS = (5.0, 8.0)
"""An emit is refused after 1 to 2 s: what PostgreSQL has allocated is used up first."""


@dataclass(frozen=True)
class Action:
    """Something done to a component, `at` seconds after the load began.

    `kill` is SIGKILL; `stop` SIGSTOP and, after `seconds`, SIGCONT; `drop` ends every connection to the database;
    `roll` starts a new worker and then asks an old one to end; `jump` moves a worker's clock by `seconds`; `fill` takes
    the room of a disk; for the kinds of the network, see `tests/chaos/network.py`.
    """

    at: float
    kind: str
    target: str
    seconds: float = 0.0


def timetable(
    seed: int,
    load_seconds: float,
    *,
    jumps: bool,
    partitions: bool = False,
    full_disks: bool = False,
    components: Sequence[str] = COMPONENTS,
) -> list[Action]:
    """Actions in two halves, evenly spread with some jitter: two of three are kills, and every component is killed.
    With partitions, every other action is one of the network."""
    draw = Random(f"{seed} timetable")
    first_at = load_seconds * QUIET_START
    middle = QUIET_MIDDLE if load_seconds >= LONG_SECONDS else 0.0
    busy = load_seconds - first_at - middle - QUIET_END
    count = max(1, int(busy / SECONDS_APART) + 1)
    space = busy / count
    each = (count + 1) // 2
    faults = islice(cycle(FAULTS), (seed - 1) * each % len(FAULTS), None) if partitions else None
    kinds: list[tuple[str, str]] = []
    while len(kinds) < count:
        kinds += _round(draw, components, faults, jumps=jumps, full_disks=full_disks)
    return [
        Action(
            first_at + (number + draw.uniform(0, 0.25)) * space + middle * (number >= count / 2),
            kind,
            target,
            _seconds(draw, kind),
        )
        for number, (kind, target) in enumerate(kinds[:count])
    ]


def kills_only(target: str, instants: Sequence[float]) -> list[Action]:
    """One component killed at these instants and nothing else."""
    return [Action(at, "kill", target) for at in instants]


def _round(
    draw: Random,
    components: Sequence[str],
    faults: Iterator[tuple[str, str]] | None,
    *,
    jumps: bool,
    full_disks: bool,
) -> list[tuple[str, str]]:
    """Two kills, something else, and so on; a worker is killed twice, and one component more. With faults of the
    network, every other action is the next of them."""
    kills = [("kill", target) for target in (*components, "worker", draw.choice(components))]
    draw.shuffle(kills)
    others = [
        ("stop", draw.choice([one for one in STOPPED if one in components])),
        ("drop", "postgres"),
        ("roll", "worker"),
    ]
    if jumps:
        others.append(("jump", "worker"))
    if full_disks:
        others += [("fill", "postgres"), ("fill", "temporal")]
    draw.shuffle(others)
    if faults is not None:
        done = [one for pair in zip_longest(kills, others) for one in pair if one is not None]
        return [one for pair in zip(islice(faults, len(done)), done, strict=True) for one in pair]
    first, second, third, *rest = others
    return [*kills[:2], first, *kills[2:4], second, *kills[4:], third, *rest]


def _seconds(draw: Random, kind: str) -> float:
    if kind == "stop":
        return draw.uniform(*STOP_SECONDS)
    if kind == "fill":
        return draw.uniform(*FULL_SECONDS)
    if kind in NETWORK_KINDS:
        return draw.uniform(*NETWORK_SECONDS)
    return float(draw.choice(CLOCK_JUMP_SECONDS)) if kind == "jump" else 0.0
