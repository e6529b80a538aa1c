"""Names of subscriptions, for lists and selections."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.mapping import all_as, columns_for
from storage.subscriptions.tables import Subscription


@dataclass(frozen=True, slots=True)
class NamedSubscription:
    """A subscription, possibly deleted, with the columns by which people tell subscriptions apart."""

    id: UUID
    name: str | None
    event_name: str
    url: str
    status: str
    deleted: bool
    ordered: bool

    @property
    def title(self) -> str:
        """Its name, or the name of its event if it has none."""
        return self.name or self.event_name


async def named_subscriptions(
    connection: AsyncConnection, store_code: str, ids: Collection[UUID], *, others: bool = False
) -> dict[UUID, NamedSubscription]:
    """Return these subscriptions of the store by id, ordered by name; with `others` also all that are not deleted."""
    deleted = col(Subscription.deleted_at).is_not(None)
    wanted = col(Subscription.id).in_(ids)
    query = (
        select(*columns_for(Subscription, NamedSubscription, but=("deleted",)), deleted.label("deleted"))
        .where(col(Subscription.store_code) == store_code, wanted | ~deleted if others else wanted)
        .order_by(
            func.coalesce(col(Subscription.name), col(Subscription.event_name)),
            col(Subscription.created_at),
            col(Subscription.id),
        )
    )
    return {named.id: named for named in all_as(NamedSubscription, await connection.execute(query))}
