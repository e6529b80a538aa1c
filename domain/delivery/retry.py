"""When a failed delivery is attempted again."""

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

JITTER = 0.1
"""Each delay varies by ±10 %, so that what failed together does not return together."""

SHORTEST_DELAY_SECONDS = 1.0
"""A receiver that says `Retry-After: 0` is still given a moment."""


def retry_delay(
    schedule: Sequence[int], failures: int, message_id: UUID, retry_after_seconds: float | None
) -> float | None:
    """Seconds until the next attempt after failure number `failures` (from 1); None when the budget is spent.

    The receiver's `Retry-After` wins over the schedule's delay but does not lengthen the budget. The jitter is derived
    from the message and the failure's number, so that computing it again gives the same instant.
    """
    if failures > len(schedule):
        return None
    if retry_after_seconds is not None:
        return max(retry_after_seconds, SHORTEST_DELAY_SECONDS)
    return schedule[failures - 1] * (1 + JITTER * _spread(message_id, failures))


def _spread(message_id: UUID, failures: int) -> float:
    """A number in [-1, 1), evenly spread over messages and failures."""
    digest = blake2b(message_id.bytes + failures.to_bytes(4, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**63 - 1
