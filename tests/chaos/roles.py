"""The subscriptions of a run: what each is there to show, and how its receiver behaves."""

from dataclasses import dataclass, field
from typing import Any

RETRY_SCHEDULE = (5,) * 50
"""Five seconds each time: first retries come when the default schedule has them, and nothing is used up in a run."""

RATE_LIMIT = 20
MAIN, ORDERED, LIMITED, AILING = (
    "CustomerUpdated",
    "CustomerDeactivated",
    "CustomerEmailWasChanged",
    "CustomerPhoneNumberWasChanged",
)
"""Events whose data need be no more than a customer's id, which is the event's own here: legacy bodies tell it too."""


@dataclass(frozen=True)
class Role:
    """One subscription. `path` names it everywhere.

    `faulty` is the share of its deliveries whose first one or two requests meet a fault; `down` the stretches, as parts
    of the time of load, in which its receiver fails whatever comes. `keeps_time`: its retries are to come at their
    instant (not where a breaker, a limit or an order decides).
    """

    path: str
    event_name: str
    faulty: float = 0.0
    down: tuple[tuple[float, float], ...] = ()
    tls: bool = False
    keeps_time: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    """Further ones of the subscription."""


ROLES = (
    Role("/plain", MAIN),
    Role("/legacy", MAIN, faulty=0.04, fields={"legacy": True}),
    Role("/flaky", MAIN, faulty=0.2),
    Role("/tls", MAIN, tls=True, keeps_time=False),  # a failed handshake is not seen by whoever counts requests
    Role("/ordered", ORDERED, faulty=0.03, keeps_time=False, fields={"ordered": True}),
    Role("/limited", LIMITED, faulty=0.03, keeps_time=False, fields={"rateLimitPerSecond": RATE_LIMIT}),
    Role("/flapping", AILING, down=((0.1, 0.2), (0.3, 0.36), (0.5, 0.6), (0.75, 0.8)), keeps_time=False),
    Role("/dead", AILING, down=((0.2, 0.5),), keeps_time=False),
)
BY_PATH = {role.path: role for role in ROLES}


def subscribed(event_name: str, roles: tuple[Role, ...] = ROLES) -> list[Role]:
    """Who gets an event of this name."""
    return [role for role in roles if role.event_name == event_name]
