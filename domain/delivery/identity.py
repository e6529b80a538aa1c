"""Names that are derived, not drawn: the same event gives the same ids however often it is processed."""

from hashlib import sha1
from uuid import UUID


def message_id(event_id: UUID, subscription_id: UUID, variant: str) -> UUID:
    """The `messageId` of one webhook: stable over attempts, restarts and redeliveries."""
    return UUID(bytes=message_id_bytes(event_id, subscription_id, variant))


_SHA1 = sha1(usedforsecurity=False)
"""To be copied: half the price of a new one."""


def message_id_bytes(event_id: UUID, subscription_id: UUID, variant: str) -> bytes:
    """The same as its sixteen bytes: a UUID of version 5, named in the event's id."""
    hash_ = _SHA1.copy()
    hash_.update(event_id.bytes + f"{subscription_id}/{variant}".encode())
    digest = bytearray(hash_.digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def event_workflow_id(store_code: str, event_id: UUID) -> str:
    """The Temporal workflow that owns one event's delivery when it has it to itself."""
    return f"event/{store_code}/{event_id}"


def drain_workflow_id(subscription_id: UUID) -> str:
    """The Temporal workflow that looks after a subscription's held deliveries."""
    return f"subscription/{subscription_id}"


def manual_attempt_id(message_id: UUID) -> str:
    """Id of the standalone activity of an attempt that a person asked for; one at a time for a delivery."""
    return f"manual/{message_id}"


def send_test_workflow_id(subscription_id: UUID) -> str:
    """Workflow id of the test of a saved webhook; one at a time per subscription."""
    return f"send-test/{subscription_id}"


def draft_test_workflow_id(test_id: UUID) -> str:
    """Workflow id of the test of a draft, that is, of a webhook that is not saved."""
    return f"draft-test/{test_id}"


def recover_workflow_id(recover_id: UUID) -> str:
    """The Temporal workflow of one recovery."""
    return f"recover/{recover_id}"


def backfill_workflow_id(backfill_id: UUID) -> str:
    """The Temporal workflow of one backfill."""
    return f"backfill/{backfill_id}"


def batch_workflow_id(batch_id: UUID) -> str:
    """The Temporal workflow that makes the first attempts of many events under backlog."""
    return f"events/{batch_id}"


def notice_workflow_id(store_code: str) -> str:
    """The Temporal workflow that tells a store's operator what happened to its subscriptions."""
    return f"notify-operator/{store_code}"


def expiry_schedule_id(store_code: str, kind: str) -> str:
    """The Temporal Schedule that scans a store's rows of a kind; its runs' ids add the time they were due."""
    return f"expiry/{store_code}/{kind}"


def expiry_workflow_id(store_code: str, kind: str, what: str) -> str:
    """A scan that no schedule began: of a day, of days (`first..last`), or of `late` rows."""
    return f"{expiry_schedule_id(store_code, kind)}/{what}"
