"""Base of the actions of one caller on the objects of one store, and the dependency that provides them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncConnection

from api.access import StoreAccess, StoreRight
from api.errors import Unavailable
from api.refusals import temporal_call
from api.resources import FromResources, Resources
from domain.access import Scope
from storage.access.audit import record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreActions:
    """Actions of one caller in one store. `actor` is the caller's name in the audit log."""

    resources: Resources
    store_code: str
    actor: str

    async def record(
        self,
        connection: AsyncConnection,
        action: str,
        object_type: str,
        object_id: UUID | str,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an audit entry in the transaction of its change."""
        await record(
            connection,
            actor=self.actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            store_code=self.store_code,
            changes=changes,
        )

    async def wake_drain(self, subscription_id: UUID, event_name: str, url: str, *, probe_now: bool = False) -> None:
        """Wake the drain of a subscription. If Temporal is unavailable, the workers' drain watchdog wakes it later."""
        try:
            async with temporal_call():
                await self.resources.starts.wake_drain(
                    subscription_id, self.store_code, event_name, url, probe_now=probe_now
                )
        except Unavailable:
            logger.warning(
                "drain of subscription %s not woken (Temporal unavailable), the drain watchdog wakes it later",
                subscription_id,
            )


Actions = TypeVar("Actions", bound=StoreActions)


def acting(actions: type[Actions], scope: Scope) -> Callable[..., Awaitable[Actions]]:
    """Return a dependency that requires a right in the store of the path and returns the caller's actions there."""

    async def of_caller(
        access: Annotated[StoreAccess, Depends(StoreRight(scope))], resources: FromResources
    ) -> Actions:
        return actions(resources, access.store_code, access.actor)

    return of_caller
