"""FIFO groups: in what order an ordered subscription is sent to, and which deliveries wait for each other."""

import json
from hashlib import blake2b
from typing import Literal
from uuid import UUID

OrderKey = Literal["subscription", "customer"]
"""FIFO groups of an ordered subscription: one, or one for each customer."""

AfterExhausted = Literal["skip", "hold"]
"""What becomes of a FIFO group whose first delivery is exhausted: the next is sent, or waits for a person."""

CUSTOMER_PATHS = (("customer", "customerId"), ("member", "customerId"), ("issuedReward", "customerId"), ("customerId",))
"""Where events have the customer they are about."""

ORDERING_KEY_BYTES = 8
"""Size of an ordering key, a bigint. Two customers with the same key, one pair in billions, wait for each other."""


def ordering_key_of(subscription_id: UUID, data_text: str | None) -> int:
    """The FIFO group of an event of this data: the same for each of its customer's events.

    It is a digest, so that the log of deliveries names no customer, and keyed, so that it says nothing across
    subscriptions. Events without a customer, or without data any more, are one FIFO group.
    """
    customer = _customer(data_text) if data_text else ""
    digest = blake2b(customer.lower().encode(), digest_size=ORDERING_KEY_BYTES, key=subscription_id.bytes)
    return int.from_bytes(digest.digest(), "big", signed=True)


def _customer(data_text: str) -> str:
    try:
        data = json.loads(data_text)
    except ValueError:
        return ""  # a damaged row: its own body will fail
    for path in CUSTOMER_PATHS:
        found = data
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, str):
            return found
    return ""
