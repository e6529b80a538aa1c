"""Adaptive throttling: a receiver that answers 429 lowers the rate of its whole subscription for a while."""

from collections import deque

TOO_MANY_REQUESTS = 429
"""Status with which a receiver asks for a lower rate."""

ANSWERS_REMEMBERED = 40
"""Size of the sliding window of a receiver's last answers."""

REFUSED_SHARE = 1 / 4
"""Share of 429s among the last answers that starts throttling. Below it, only the refused deliveries are retried."""

REFUSED_LEAST = 5
"""Minimum number of 429s that starts throttling: a receiver may refuse a few deliveries for other reasons."""

SLOWED_FROM_PER_SECOND = 20.0
"""First rate of a throttled subscription without a rate limit; with one, half of its limit if that is less."""

SLOWEST_PER_SECOND = 0.2
"""Minimum rate of a throttled subscription."""

DOUBLED_AFTER_SECONDS = 10.0
"""Interval without another 429 after which the rate doubles, until it reaches the rate limit again."""

UNSLOWED_PER_SECOND = 1000.0
"""Rate at which throttling of a subscription without a rate limit ends."""

HALVED_ONCE_IN_SECONDS = 1.0
"""Minimum interval between two reductions. Requests in flight at the first 429 return others, without any news."""

LONGEST_REST_SECONDS = 60.0
"""Maximum pause of a subscription after a `Retry-After`, equal to the longest interval between probes."""


class Answers:
    """Sliding window of one receiver's last answers, refused (429) or not."""

    def __init__(self) -> None:
        self._refused: deque[bool] = deque(maxlen=ANSWERS_REMEMBERED)

    def note(self, *, refused: bool) -> bool:
        """Add an answer; return True if it starts or continues throttling."""
        self._refused.append(refused)
        return refused and sum(self._refused) >= max(REFUSED_LEAST, REFUSED_SHARE * len(self._refused))
