"""Ids of expiry notices. The id of the event is derived, so that a notice is emitted once however often it is found."""

from datetime import UTC, datetime
from uuid import UUID, uuid5

from domain.expiry.rows import Kind

NOTICES = UUID("6d2b6c0e-5a43-4d0f-9f63-0d7c8d1b7a95")
"""Name space of generated event ids. Changing it would send every notice again."""


def notice_id(store_code: str, kind: Kind, identity: UUID, instant: datetime) -> UUID:
    """Return the event id of the notice that this transfer, member's level or coupon expires at this instant.

    The id contains neither the day of the scan nor the number of days ahead, so that every scan gives the same notice.
    A different instant gives a different notice.
    """
    expires = instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return uuid5(NOTICES, f"{store_code}/{kind}/{identity}/{expires}")
