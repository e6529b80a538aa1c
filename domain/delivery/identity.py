"""Derived ids: processing an event again gives the same message, workflow and activity ids."""

from hashlib import sha1
from uuid import UUID


def message_id(event_id: UUID, subscription_id: UUID, variant: str) -> UUID:
    """Return the `messageId` of a webhook: stable over attempts, restarts and redeliveries."""
    return UUID(bytes=message_id_bytes(event_id, subscription_id, variant))


_SHA1 = sha1(usedforsecurity=False)
"""Hash object to copy: a copy takes half the time of a new one."""


def message_id_bytes(event_id: UUID, subscription_id: UUID, variant: str) -> bytes:
    """Return the `messageId` as sixteen bytes: a UUID of version 5 in the name space of the event's id."""
    hash_ = _SHA1.copy()
    hash_.update(event_id.bytes + f"{subscription_id}/{variant}".encode())
    digest = bytearray(hash_.digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


SINGLE_PREFIX, BATCH_PREFIX = "event/", "events/"
"""Prefixes of the ids of `deliver-events` for one event and for several."""


def event_workflow_id(store_code: str, event_id: UUID) -> str:
    """Return the id of the workflow of an event alone, which a claim writes in SQL."""
    return f"{SINGLE_PREFIX}{store_code}/{event_id}"


def drain_workflow_id(subscription_id: UUID) -> str:
    """Return the id of the workflow that drains a subscription's held deliveries."""
    return f"subscription/{subscription_id}"


def manual_attempt_id(message_id: UUID) -> str:
    """Return the id of the standalone activity of a manual attempt; one at a time per delivery."""
    return f"manual/{message_id}"


def send_test_workflow_id(subscription_id: UUID) -> str:
    """Return the id of the workflow that tests a saved webhook; one at a time per subscription."""
    return f"send-test/{subscription_id}"


def draft_test_workflow_id(test_id: UUID) -> str:
    """Return the id of the workflow that tests a draft, that is, a webhook that is not saved."""
    return f"draft-test/{test_id}"


def bulk_action_workflow_id(kind: str, action_id: UUID) -> str:
    """Return the id of the workflow of a bulk action, a `recover` or a `backfill`."""
    return f"{kind}/{action_id}"


def batch_workflow_id(batch_id: UUID) -> str:
    """Return the id of the workflow that makes the first attempts of a batch of events."""
    return f"{BATCH_PREFIX}{batch_id}"


def notice_workflow_id(store_code: str) -> str:
    """Return the id of the workflow that sends operator notices about a store's subscriptions."""
    return f"notify-operator/{store_code}"


def expiry_schedule_id(store_code: str, kind: str) -> str:
    """Return the id of the Temporal Schedule that scans a store's rows of a kind; run ids append their due time."""
    return f"expiry/{store_code}/{kind}"


def expiry_workflow_id(store_code: str, kind: str, what: str) -> str:
    """Return the id of a scan outside the schedule: of a day, of days (`first..last`), or of `late` rows."""
    return f"{expiry_schedule_id(store_code, kind)}/{what}"
