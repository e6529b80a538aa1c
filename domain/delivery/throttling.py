"""How a receiver that answers 429 is sent to: more slowly for a while, as a whole subscription."""

from collections import deque

TOO_MANY_REQUESTS = 429
"""What a receiver answers that wants to be sent to more slowly."""

ANSWERS_REMEMBERED = 40

REFUSED_SHARE = 1 / 4
"""Of the last answers; fewer 429s than this are the matter of the deliveries that met them."""

REFUSED_LEAST = 5
"""Before so many nobody knows: a receiver may refuse one delivery for reasons of its own."""

SLOWED_FROM_PER_SECOND = 20.0
"""A subscription without a limit goes on at this pace when its receiver gets too much, one with a limit at half of it
if that is less."""

SLOWEST_PER_SECOND = 0.2

DOUBLED_AFTER_SECONDS = 10.0
"""Without another 429 the pace doubles after so long, until it is that of the limit again."""

UNSLOWED_PER_SECOND = 1000.0
"""At this pace a subscription without a limit is as fast as ever."""

HALVED_ONCE_IN_SECONDS = 1.0
"""What was on the wire when the first 429 came brings others, which say nothing new."""

LONGEST_REST_SECONDS = 60.0
"""A receiver's `Retry-After` silences its subscription for so long at most, as the longest wait for a probe."""


class Answers:
    """The last answers of one receiver, as far as they say that it gets too much."""

    def __init__(self) -> None:
        self._refused: deque[bool] = deque(maxlen=ANSWERS_REMEMBERED)

    def note(self, *, refused: bool) -> bool:
        """One more; whether its receiver is to be sent to more slowly from now on."""
        self._refused.append(refused)
        return refused and sum(self._refused) >= max(REFUSED_LEAST, REFUSED_SHARE * len(self._refused))
