"""Ordering keys: the FIFO groups of an ordered subscription, within which deliveries wait for each other."""

import json
from hashlib import blake2b
from typing import Literal
from uuid import UUID

from domain.wire.legacy import find

OrderKey = Literal["subscription", "customer"]
"""FIFO groups of an ordered subscription: one, or one for each customer."""

AfterExhausted = Literal["skip", "hold"]
"""Behaviour of a FIFO group whose first delivery is exhausted: send the next, or hold it until a person decides."""

CUSTOMER_PATHS = (("customer", "customerId"), ("member", "customerId"), ("issuedReward", "customerId"), ("customerId",))
"""Paths in the data of events at which the customer's id is found."""

ORDERING_KEY_BYTES = 8
"""Size of an ordering key, a bigint. Two customers with the same key, one pair in billions, wait for each other."""


def ordering_key_of(subscription_id: UUID, data_text: str | None) -> int:
    """Return the ordering key of an event with this data: the same for all events of its customer.

    The key is a digest, so that the delivery log names no customer, and keyed, so that it cannot be compared across
    subscriptions. Events without a customer, or whose data was removed, form one FIFO group.
    """
    customer = _customer(data_text) if data_text else ""
    digest = blake2b(customer.lower().encode(), digest_size=ORDERING_KEY_BYTES, key=subscription_id.bytes)
    return int.from_bytes(digest.digest(), "big", signed=True)


def _customer(data_text: str) -> str:
    try:
        data = json.loads(data_text)
    except ValueError:
        return ""  # a damaged row; its attempt fails when the body is built
    for path in CUSTOMER_PATHS:
        if isinstance(found := find(data, path), str):
            return found
    return ""
