"""Retention periods of the data that grows with every event."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """Retention in days after the day on which an event was accepted, for stores without a setting of their own.

    `days`: bodies, deliveries and attempts of delivered events. `exhausted_days`: the same data of events with an
    exhausted or open delivery; where it is fewer than `days`, `days` applies. `event_id_days`: event ids with a digest
    of their content, by which a repeated emit is recognised.
    """

    days: int
    exhausted_days: int
    event_id_days: int
