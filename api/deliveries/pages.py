"""Pages of the delivery log, as the API answers them and the panel shows them."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from api.cursors import read_cursor, write_cursor
from api.listing import Listing
from storage.deliveries.log import DeliveryRow, Position, delivery_page


@dataclass(frozen=True, slots=True)
class LogPage:
    """Deliveries, newest first; `next_cursor` is None on the last page. Before it a page may be short, even empty."""

    rows: list[DeliveryRow]
    next_cursor: str | None
    stopped_short: bool = False
    """Not for its rows' number, but for that of the deliveries that were looked at."""


async def log_page(connection: AsyncConnection, store_code: str, listing: Listing) -> LogPage:
    """The page that is asked for. Raises ValidationFailed for a cursor that is none of ours."""
    after = None if listing.cursor is None else read_cursor(listing.cursor)
    found = await delivery_page(connection, store_code, listing.conditions, after, listing.items + 1)
    page = found.rows[: listing.items]
    if len(found.rows) > listing.items:
        return LogPage(page, cursor_of(page[-1]))
    if found.looked_to is not None:
        return LogPage(page, write_cursor(found.looked_to), stopped_short=True)
    return LogPage(page, None)


def cursor_of(row: DeliveryRow) -> str:
    """Where a page ends that has this delivery last."""
    return write_cursor(Position(row.created_at, row.message_id))
