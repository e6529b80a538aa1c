"""Format migration: create the paused modern subscription, count its switch, then switch over in one transaction."""

from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, existing
from api.store_actions import StoreActions
from api.subscriptions.models import NAME_MOST
from api.subscriptions.service import SUBSCRIPTION, limited
from domain.delivery.lifecycle import SubscriptionStatus
from storage.access.audit import changed
from storage.subscriptions.format_migration import (
    PairRow,
    Switch,
    count_switch,
    create_modern_copy,
    find_legacy,
    share_out,
)
from storage.subscriptions.queries import disable, resume

MODERN = " (modern)"


class FormatMigrations(StoreActions):
    """Operator actions on the legacy subscriptions of a store. Every method raises NotFound for other ids."""

    async def create_modern(self, subscription_id: UUID) -> PairRow:
        """Create the paused modern subscription unless it exists, and return the pair. Raises ValidationFailed at a
        subscription limit."""
        async with self.resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id, lock=True)
            if original.modern_id is None:
                modern_id, name = uuid4(), modern_name(original)
                with limited(self.resources.settings, original.event_name) as limits:
                    await create_modern_copy(connection, self.store_code, original, modern_id, name, limits)
                made = {"name": name, "legacy": False, "status": SubscriptionStatus.PAUSED}
                changes = changed({}, {**made, "modern_of": str(original.id)})
                await self.record(connection, "create", SUBSCRIPTION, modern_id, changes)
                original = await self._found(connection, subscription_id)
        return original

    async def plan(self, subscription_id: UUID) -> tuple[PairRow, Switch]:
        """Return the pair and the counts of a switch now. Raises Conflict if it is not possible."""
        async with self.resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id)
            return original, await count_switch(connection, original.id, _ready(original))

    async def switch_over(self, subscription_id: UUID) -> PairRow:
        """Activate the modern subscription and disable the legacy one; each waiting event is left to one of the two.

        Events that the legacy subscription has settled are not sent again. Its open deliveries move to the modern one;
        one of their attempts that is in progress may still arrive. Raises Conflict as `plan` does.
        """
        async with self.resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id, lock=True)
            modern_id = _ready(original)
            dropped, moved = await share_out(connection, original.id, modern_id)
            await disable(connection, original.id, reason=f"switched over to {modern_id} by {self.actor}")
            await resume(connection, modern_id)
            figures = {"modern_id": str(modern_id), "moved": moved, "dropped": dropped}
            statuses = changed({"status": original.status}, {"status": SubscriptionStatus.DISABLED})
            await self.record(connection, "switch_over", SUBSCRIPTION, original.id, {**statuses, **figures})
            resumed = changed({"status": SubscriptionStatus.PAUSED}, {"status": SubscriptionStatus.ACTIVE})
            await self.record(connection, "resume", SUBSCRIPTION, modern_id, resumed)
        for each in (modern_id, original.id):
            await self.wake_drain(each, original.event_name, original.modern_url or original.url)
        return original

    async def _found(self, connection: AsyncConnection, subscription_id: UUID, *, lock: bool = False) -> PairRow:
        return existing(await find_legacy(connection, self.store_code, subscription_id, lock=lock))


def modern_name(original: PairRow) -> str:
    """Return the name of the modern subscription of a pair."""
    return (original.name or original.event_name)[: NAME_MOST - len(MODERN)] + MODERN


def _ready(original: PairRow) -> UUID:
    """Return the id of the modern subscription if it can take over. Raises Conflict otherwise."""
    if original.modern_id is None:
        raise Conflict("It has no modern webhook yet; create it first.")
    if original.modern_status == SubscriptionStatus.ACTIVE:
        raise Conflict("Its modern webhook is already active; pause it first, or pause or delete the legacy webhook.")
    if original.modern_status == SubscriptionStatus.DISABLED:
        raise Conflict("Its modern webhook is disabled; enable it and pause it first.")
    return original.modern_id
