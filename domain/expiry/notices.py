"""The notice that something expires: an event whose id is derived, so that it is given once however often found."""

from datetime import UTC, datetime
from uuid import UUID, uuid5

from domain.expiry.rows import Kind

NOTICES = UUID("6d2b6c0e-5a43-4d0f-9f63-0d7c8d1b7a95")
"""The name space of generated event ids. Another one would send every notice again."""


def notice_id(store_code: str, kind: Kind, identity: UUID, instant: datetime) -> UUID:
    """The event id of the notice that this transfer, member's level or coupon expires at this instant.

    Neither the day it is found on nor the number of days ahead is part of it: whoever finds it again gives the same
    notice. Another instant is another notice.
    """
    expires = instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return uuid5(NOTICES, f"{store_code}/{kind}/{identity}/{expires}")
