"""What subscriptions are called, for lists and choices."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class NamedSubscription:
    """A subscription, deleted ones among them, as far as people tell them apart."""

    id: UUID
    name: str | None
    event_name: str
    url: str
    status: str
    deleted: bool
    ordered: bool

    @property
    def title(self) -> str:
        """Its name, or its event's where it has none."""
        return self.name or self.event_name


_NAMED = text("""
SELECT id, name, event_name, url, status, deleted_at IS NOT NULL, ordered FROM subscription
WHERE store_code = :store_code AND (id = ANY(:ids) OR :all AND deleted_at IS NULL)
ORDER BY coalesce(name, event_name), created_at, id
""")


async def named_subscriptions(
    connection: AsyncConnection, store_code: str, ids: Collection[UUID], *, others: bool = False
) -> dict[UUID, NamedSubscription]:
    """These subscriptions of the store, by id in the order of their names; `others`: and all that are not deleted."""
    values = {"store_code": store_code, "ids": list(ids), "all": others}
    return {row[0]: NamedSubscription(*row) for row in await connection.execute(_NAMED, values)}
