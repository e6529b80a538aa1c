"""The subscriptions of a run: what each is there to show, and how its receiver behaves."""

from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

RETRY_SCHEDULE = (5,) * 50
"""Five seconds each time: first retries come when the default schedule has them, and nothing is used up in a run."""

LONGEST_OUTAGE_SECONDS = 120.0
"""Maximum of a stretch in which a receiver is down, however long the run is: half of what the retry schedule lasts. A
delivery whose schedule is used up is exhausted, which a ledger of the receiver's side cannot tell from lost."""

RATE_LIMIT = 20
MAIN, ORDERED, BY_CUSTOMER, LIMITED, AILING = (
    "CustomerUpdated",
    "CustomerDeactivated",
    "TransactionAssignedToCustomer",
    "CustomerEmailWasChanged",
    "CustomerPhoneNumberWasChanged",
)
"""Events whose data need be no more than ids: `data_of`."""

CUSTOMERS = [str(uuid5(NAMESPACE_URL, f"customer {number}")) for number in range(6)]


@dataclass(frozen=True)
class Role:
    """One subscription. `path` names it everywhere.

    `faulty` is the share of its deliveries whose first one or two requests meet a fault; `down` the stretches, as parts
    of the time of load, in which its receiver fails whatever comes (each ends after LONGEST_OUTAGE_SECONDS at the
    latest). `keeps_time`: its retries are to come at their instant (not where a breaker, a limit or an order decides).
    """

    path: str
    event_name: str
    faulty: float = 0.0
    down: tuple[tuple[float, float], ...] = ()
    tls: bool = False
    keeps_time: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    """Further ones of the subscription."""

    def outages(self, load_seconds: float) -> list[tuple[float, float]]:
        """Return (begin, end) of each stretch in which the receiver is down, in seconds after the load began."""
        stretches = ((begin * load_seconds, end * load_seconds) for begin, end in self.down)
        return [(begin, min(end, begin + LONGEST_OUTAGE_SECONDS)) for begin, end in stretches]

    def is_down(self, at: float, load_seconds: float) -> bool:
        """Return True if the receiver is down at this second of the load."""
        return any(begin <= at < end for begin, end in self.outages(load_seconds))


ROLES = (
    Role("/plain", MAIN),
    Role("/legacy", MAIN, faulty=0.04, fields={"legacy": True}),
    Role("/flaky", MAIN, faulty=0.2),
    Role("/tls", MAIN, tls=True, keeps_time=False),  # a failed handshake is not seen by whoever counts requests
    Role("/ordered", ORDERED, faulty=0.03, keeps_time=False, fields={"ordered": True}),
    Role(
        "/customers",
        BY_CUSTOMER,
        faulty=0.05,
        keeps_time=False,
        fields={"ordered": True, "orderKey": "customer"},
    ),
    Role("/limited", LIMITED, faulty=0.03, keeps_time=False, fields={"rateLimitPerSecond": RATE_LIMIT}),
    Role("/flapping", AILING, down=((0.1, 0.2), (0.3, 0.36), (0.5, 0.6), (0.75, 0.8)), keeps_time=False),
    Role("/dead", AILING, down=((0.2, 0.5),), keeps_time=False),
)
BY_PATH = {role.path: role for role in ROLES}


def subscribed(event_name: str, roles: tuple[Role, ...] = ROLES) -> list[Role]:
    """Who gets an event of this name."""
    return [role for role in roles if role.event_name == event_name]


def customer_of(event_id: str) -> str:
    """Of an event that is ordered by customer."""
    return CUSTOMERS[UUID(event_id).int % len(CUSTOMERS)]


def data_of(event_name: str, event_id: str) -> dict[str, Any]:
    """An event's data, by which the receiver knows it again: as a rule a customer of its own, which legacy bodies tell
    too."""
    if event_name == BY_CUSTOMER:
        return {"transactionId": event_id, "customer": {"customerId": customer_of(event_id)}}
    return {"customer": {"customerId": event_id}}


def event_id_of(data: dict[str, Any]) -> str:
    """The event that came with this data, in a modern or a legacy body."""
    event_id: str
    if "transactionId" in data:
        event_id = data["transactionId"]
    else:
        event_id = data["customerId"] if "customerId" in data else data["customer"]["customerId"]
    return event_id


def ordering_key_of(event_name: str, event_id: str) -> str | None:
    """Events of the same line are emitted one after the other; None: in none."""
    if event_name == BY_CUSTOMER:
        return customer_of(event_id)
    return "" if event_name == ORDERED else None
