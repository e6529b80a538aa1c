"""Format migration: create the paused modern subscription, count its switch, then switch over in one transaction."""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from api.actions.service import OperatorActions
from api.errors import Conflict, NotFound
from api.resources import Resources
from api.subscriptions.models import NAME_MOST
from api.subscriptions.service import limit_reached
from domain.delivery.lifecycle import SubscriptionStatus
from storage.access.audit import changed, record
from storage.subscriptions.format_migration import (
    PairRow,
    Switch,
    count_switch,
    create_modern_copy,
    find_legacy,
    share_out,
)
from storage.subscriptions.queries import SubscriptionLimitError, SubscriptionLimits
from storage.subscriptions.status import disable, resume

logger = logging.getLogger(__name__)

MODERN = " (modern)"


class FormatMigrations:
    """Operator actions on the legacy subscriptions of a store. Every method raises NotFound for other ids."""

    def __init__(self, resources: Resources, store_code: str, actor: str) -> None:
        self._resources = resources
        self._store_code = store_code
        self._actor = actor

    async def create_modern(self, subscription_id: UUID) -> PairRow:
        """Create the paused modern subscription unless it exists, and return the pair. Raises ValidationFailed at a
        subscription limit."""
        settings = self._resources.settings
        limits = SubscriptionLimits(settings.subscriptions_per_store, settings.subscriptions_per_event)
        async with self._resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id, lock=True)
            if original.modern_id is None:
                modern_id, name = uuid4(), modern_name(original)
                try:
                    await create_modern_copy(connection, self._store_code, original, modern_id, name, limits)
                except SubscriptionLimitError as error:
                    raise limit_reached(error, original.event_name) from error
                made = {
                    "name": name,
                    "legacy": False,
                    "status": SubscriptionStatus.PAUSED,
                    "modern_of": str(original.id),
                }
                await self._record(connection, "create", modern_id, changed({}, made))
                original = await self._found(connection, subscription_id)
        return original

    async def plan(self, subscription_id: UUID) -> tuple[PairRow, Switch]:
        """Return the pair and the counts of a switch now. Raises Conflict if it is not possible."""
        async with self._resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id)
            return original, await count_switch(connection, original.id, _ready(original))

    async def switch_over(self, subscription_id: UUID) -> PairRow:
        """Activate the modern subscription and disable the legacy one; each waiting event is left to one of the two.

        Events that the legacy subscription has settled are not sent again. Its open deliveries move to the modern one;
        one of their attempts that is in progress may still arrive. Raises Conflict as `plan` does.
        """
        async with self._resources.database.transaction() as connection:
            original = await self._found(connection, subscription_id, lock=True)
            modern_id = _ready(original)
            dropped, moved = await share_out(connection, original.id, modern_id)
            await disable(connection, original.id, reason=f"switched over to {modern_id} by {self._actor}")
            await resume(connection, modern_id)
            figures = {"modern_id": str(modern_id), "moved": moved, "dropped": dropped}
            statuses = changed({"status": original.status}, {"status": SubscriptionStatus.DISABLED})
            await self._record(connection, "switch_over", original.id, {**statuses, **figures})
            resumed = changed({"status": SubscriptionStatus.PAUSED}, {"status": SubscriptionStatus.ACTIVE})
            await self._record(connection, "resume", modern_id, resumed)
        actions = OperatorActions(self._resources, self._store_code, self._actor)
        for each in (modern_id, original.id):
            await actions.wake_drain(each, original.event_name, original.modern_url or original.url)
        return original

    async def _found(self, connection: AsyncConnection, subscription_id: UUID, *, lock: bool = False) -> PairRow:
        row = await find_legacy(connection, self._store_code, subscription_id, lock=lock)
        if row is None:
            raise NotFound
        return row

    async def _record(
        self, connection: AsyncConnection, action: str, subscription_id: UUID, changes: Mapping[str, Any]
    ) -> None:
        await record(
            connection,
            actor=self._actor,
            action=action,
            object_type="subscription",
            object_id=subscription_id,
            store_code=self._store_code,
            changes=changes,
        )


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
