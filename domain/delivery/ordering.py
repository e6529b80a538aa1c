"""Lines: in what order an ordered subscription is sent to, and which deliveries wait for each other."""

import json
from hashlib import blake2b
from typing import Literal
from uuid import UUID

OrderKey = Literal["subscription", "customer"]
"""What makes deliveries of an ordered subscription wait for each other: it has one line, or one for each customer."""

AfterExhausted = Literal["skip", "hold"]
"""What becomes of a line whose first delivery is exhausted: the next is sent, or waits for a person."""

CUSTOMER_PATHS = (("customer", "customerId"), ("member", "customerId"), ("issuedReward", "customerId"), ("customerId",))
"""Where events have the customer they are about."""

LINE_BYTES = 8
"""As a bigint. Two customers of one line, one pair in some billions, would wait for each other: no more than that."""


def line_of(subscription_id: UUID, data_text: str | None) -> int:
    """The line of an event of this data: the same for each of its customer's events.

    It is a digest, so that the log of deliveries names no customer, and keyed, so that it says nothing across
    subscriptions. Events without a customer, or without data any more, are one line.
    """
    customer = _customer(data_text) if data_text else ""
    digest = blake2b(customer.lower().encode(), digest_size=LINE_BYTES, key=subscription_id.bytes)
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
