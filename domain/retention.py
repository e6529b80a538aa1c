"""How long what grows by every event is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """Days after the one on which an event was accepted, for stores that say nothing else.

    `days`: bodies, deliveries and attempts of what arrived. `exhausted_days`: the same of events of which a delivery
    is exhausted or still open; where it is fewer than `days`, those count. `event_id_days`: ids with a digest of their
    content, by which an event that comes again is known.
    """

    days: int
    exhausted_days: int
    event_id_days: int
