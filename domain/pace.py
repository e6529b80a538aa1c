"""How a receiver that answers 429 is sent to: more slowly for a while, as a whole subscription."""

SLOWED_FROM_PER_SECOND = 20.0
"""A subscription without a limit goes on at this pace after its receiver's first 429, one with a limit at half of it if
that is less."""

SLOWEST_PER_SECOND = 0.2

DOUBLED_AFTER_SECONDS = 10.0
"""Without another 429 the pace doubles after so long, until it is that of the limit again."""

UNSLOWED_PER_SECOND = 1000.0
"""At this pace a subscription without a limit is as fast as ever."""

HALVED_ONCE_IN_SECONDS = 1.0
"""What was on the wire when the first 429 came brings others, which say nothing new."""

LONGEST_REST_SECONDS = 60.0
"""A receiver's `Retry-After` silences its subscription for so long at most, as the longest wait for a probe."""
