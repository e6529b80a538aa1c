"""What the receiver does with a request: decided by seed, delivery and how often it was asked, not by the clock alone.

Only the stretches in which a receiver is down depend on when a request comes.
"""

from dataclasses import dataclass
from random import Random

from tests.chaos.roles import Role

KINDS = (
    "error",  # 500
    "busy",  # 429 with Retry-After
    "redirect",  # 302
    "reset",  # instead of an answer
    "reset mid-response",
    "close",  # an orderly end instead of an answer
    "wrong length",  # a body shorter than announced
    "garbage",  # no HTTP at all
    "hang",  # until the client gives up
    "slow",  # a good answer, late
)
HEALTHY = "ok"
DOWN = ("error", "error", "reset", "close")  # what a receiver that is down does
RETRY_AFTER_SECONDS = (3, 4, 6)
SLOW_SECONDS = (0.3, 1.5)
HANDSHAKES_FAILED = 0.1


@dataclass(frozen=True)
class Fault:
    """What to do; `retry_after` with a busy answer, `seconds` with a slow one."""

    kind: str
    retry_after: int | None = None
    seconds: float = 0.0

    @property
    def status(self) -> int | None:
        """The status of the answer; None when none is given whole."""
        return {HEALTHY: 200, "slow": 200, "error": 500, "busy": 429, "redirect": 302}.get(self.kind)


def fault(seed: int, role: Role, event_id: str, number: int, *, down: bool) -> Fault:
    """What the request with this number (from 1) of an event meets; `down`: the receiver fails whatever comes."""
    draw = Random(f"{seed} {role.path} {event_id}")
    if down:
        return _drawn(Random(f"{seed} {role.path} {event_id} {number}"), DOWN)
    faults = draw.choice((1, 1, 2)) if draw.random() < role.faulty else 0
    chosen = [_drawn(draw, KINDS) for _ in range(faults)]
    return chosen[number - 1] if number <= len(chosen) else Fault(HEALTHY)


def _drawn(draw: Random, kinds: tuple[str, ...]) -> Fault:
    kind = draw.choice(kinds)
    if kind == "busy":
        return Fault(kind, retry_after=draw.choice(RETRY_AFTER_SECONDS))
    return Fault(kind, seconds=draw.uniform(*SLOW_SECONDS)) if kind == "slow" else Fault(kind)


def handshake_fails(seed: int, number: int) -> bool:
    """Whether the receiver breaks off the TLS handshake with this number."""
    return Random(f"{seed} handshake {number}").random() < HANDSHAKES_FAILED
