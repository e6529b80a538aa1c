"""What is emitted when: drawn from the seed before the run begins, event ids included."""

from dataclasses import dataclass
from random import Random
from uuid import UUID

from tests.chaos.roles import AILING, BY_CUSTOMER, LIMITED, MAIN, ORDERED

MAIN_PER_SECOND = 8.0
ORDERED_PER_SECOND = 3.0
BY_CUSTOMER_PER_SECOND = 4.0
AILING_PER_SECOND = 2.0
BURST_SECONDS = 5.0
MAIN_BURST = 30
LIMITED_BURST = 40
"""Twice what its limit lets through in a second; at a burst every five seconds it has caught up before the next."""

RATES = (
    (MAIN, MAIN_PER_SECOND),
    (ORDERED, ORDERED_PER_SECOND),
    (BY_CUSTOMER, BY_CUSTOMER_PER_SECOND),
    (AILING, AILING_PER_SECOND),
)


@dataclass(frozen=True)
class Emission:
    """One request of the emitter, `at` seconds after the load began: a single event, or several in a batch."""

    at: float
    event_name: str
    event_ids: tuple[str, ...]


def load(seed: int, seconds: float, scale: float = 1.0) -> list[Emission]:
    """All emissions in the order of their instants. `scale` multiplies the rates of what has no limit of its own."""
    draw = Random(f"{seed} load")
    emissions = [emission for name, rate in RATES for emission in _singles(draw, name, rate * scale, seconds)]
    emissions += _bursts(draw, MAIN, max(2, round(MAIN_BURST * scale)), seconds)
    emissions += _bursts(draw, LIMITED, LIMITED_BURST, seconds)
    return sorted(emissions, key=lambda emission: emission.at)


def _singles(draw: Random, name: str, rate: float, seconds: float) -> list[Emission]:
    return [
        Emission((number + draw.random()) / rate, name, (_event_id(draw),)) for number in range(int(rate * seconds))
    ]


def _bursts(draw: Random, name: str, size: int, seconds: float) -> list[Emission]:
    return [
        Emission((number + draw.random() / 2) * BURST_SECONDS, name, tuple(_event_id(draw) for _ in range(size)))
        for number in range(int(seconds / BURST_SECONDS))
    ]


def _event_id(draw: Random) -> str:
    return str(UUID(int=draw.getrandbits(128), version=4))
