"""Delay between the attempts of a delivery."""

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

JITTER = 0.1
"""Relative variation of each delay, ±10 %, so that deliveries that failed together are not retried together."""

SHORTEST_DELAY_SECONDS = 1.0
"""Minimum delay by a receiver's `Retry-After`. Zero and past dates follow the schedule: see `parse_retry_after`."""


def retry_delay(
    schedule: Sequence[int], failures: int, message_id: UUID, retry_after_seconds: float | None
) -> float | None:
    """Return the seconds until the next attempt after failure number `failures` (from 1), or None after the last.

    The receiver's `Retry-After` takes precedence over the schedule's delay but does not add attempts. The jitter is
    derived from the message and the failure's number, so that computing it again gives the same instant.
    """
    if failures > len(schedule):
        return None
    if retry_after_seconds is not None:
        return max(retry_after_seconds, SHORTEST_DELAY_SECONDS)
    return schedule[failures - 1] * (1 + JITTER * _spread(message_id, failures))


def _spread(message_id: UUID, failures: int) -> float:
    """Return a number in [-1, 1), evenly spread over messages and failures."""
    digest = blake2b(message_id.bytes + failures.to_bytes(4, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**63 - 1
