"""A person's acts on subscriptions and deliveries: what may be done when, audited in the transaction that does it."""

import logging
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, NotFound, Unavailable
from api.resources import Resources
from api.temporal_calls import temporal_call
from domain.wire.bodies import TEST
from storage.access.audit import changed, record
from storage.operations.actions import (
    ActedOn,
    cancel,
    delivery_for_act,
    make_due,
    make_probe_due,
)
from storage.subscriptions.queries import SubscriptionRow, find_subscription
from storage.subscriptions.status import disable, enable, pause, resume

logger = logging.getLogger(__name__)

StatusAct = Literal["pause", "resume", "disable", "enable"]

_REACHES = {"pause": "paused", "resume": "active", "disable": "disabled", "enable": "active"}
_DOES_NOT_END = {
    ("pause", "disabled"): "It is disabled, so nothing is sent anyway; enable it first.",
    ("resume", "disabled"): "It is disabled, not paused; enable it.",
    ("enable", "paused"): "It is paused, not disabled; resume it.",
}
_ENDED = {
    "delivered": "It has been delivered already; redeliver sends it once more.",
    "exhausted": "It has ended without success; redeliver tries it once more, recover begins its schedule anew.",
    "cancelled": "It has been cancelled; redeliver tries it once more, recover begins its schedule anew.",
}
_NOT_SENDING = {
    "paused": "Its subscription is paused: resume it first, or send a test.",
    "disabled": "Its subscription is disabled: enable it first, or send a test.",
}
_TESTS = "It is a test, which is sent once; send another."
CANCELLED_BY_PERSON = "cancelled_by_person"


class Acts:
    """Acts of one person in one store."""

    def __init__(self, resources: Resources, store_code: str, actor: str) -> None:
        self._database = resources.database
        self._acting = resources.acting
        self._store_code = store_code
        self._actor = actor

    async def change_status(self, subscription_id: UUID, act: StatusAct) -> SubscriptionRow:
        """Bring it to the act's status and return it as it is then; one that is there already stays as it is.

        Raises Conflict where the act does not lead there, NotFound.
        """
        async with self._database.transaction() as connection:
            before = await self._subscription(connection, subscription_id)
            if (refusal := _DOES_NOT_END.get((act, before.status))) is not None:
                raise Conflict(refusal)
            if before.status == _REACHES[act]:
                after = before
            else:
                await self._set_status(connection, subscription_id, act)
                after = await self._subscription(connection, subscription_id)
                changes = changed({"status": before.status}, {"status": after.status})
                await self._audit(connection, act, "subscription", subscription_id, changes)
        if act != "pause":  # what is left to send, or to end
            await self.tell_keeper(after.id, after.event_name, after.url)
        return after

    async def _set_status(self, connection: AsyncConnection, subscription_id: UUID, act: StatusAct) -> None:
        if act == "pause":
            await pause(connection, subscription_id, reason=f"by {self._actor}")
        elif act == "resume":
            await resume(connection, subscription_id)
        elif act == "disable":
            await disable(connection, subscription_id, reason=f"by {self._actor}")
        else:
            await enable(connection, subscription_id)

    async def redeliver(self, message_id: UUID) -> None:
        """One more attempt of a delivery that has ended. Raises Conflict, NotFound."""
        async with self._database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status in ("pending", "held"):
                raise Conflict(f"It is still being delivered ({delivery.status}); send-now does not wait for its turn.")
            _refuse_test_or_silent(delivery)
            await self._audit(connection, "redeliver", "delivery", message_id)
            async with temporal_call():
                begun = await self._acting.redeliver(message_id, delivery.url)
            if not begun:
                raise Conflict("It is being redelivered already; wait until that attempt has ended.")
        if delivery.breaker_open:
            await self.tell_keeper(delivery.subscription_id, delivery.event_name, delivery.url)

    async def send_now(self, message_id: UUID) -> None:
        """Do not let an open delivery wait for its next attempt. Raises Conflict, NotFound."""
        async with self._database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if (ended := _ENDED.get(delivery.status)) is not None:
                raise Conflict(ended)
            _refuse_test_or_silent(delivery)
            if delivery.behind is not None:
                raise Conflict(
                    f"Its subscription is ordered and {delivery.behind} comes before it; "
                    "send, redeliver or cancel that one."
                )
            await self._audit(connection, "send-now", "delivery", message_id)
            if delivery.status == "held":
                await make_due(connection, message_id)
            elif delivery.breaker_open:  # its workflow gives it to the keeper, which is to ask at once then
                await make_probe_due(connection, delivery.subscription_id)
        async with temporal_call():
            if delivery.status == "pending":
                event = (self._store_code, delivery.event_id, delivery.event_name)
                await self._acting.attempt_now(*event, message_id)
            if delivery.status == "held" or delivery.breaker_open:
                place = (self._store_code, delivery.event_name, delivery.url)
                await self._acting.probe_now(delivery.subscription_id, *place)

    async def cancel(self, message_id: UUID) -> None:
        """End an open delivery, or let the successors of an exhausted one go on. Raises Conflict, NotFound.

        An attempt under way is finished, and may succeed.
        """
        async with self._database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status not in ("pending", "held") and not delivery.holds_line:
                raise Conflict(_ENDED[delivery.status].partition(";")[0] + ".")
            await cancel(connection, message_id, reason=CANCELLED_BY_PERSON)
            await self._audit(connection, "cancel", "delivery", message_id)
        if delivery.holds_line or (delivery.status == "held" and delivery.ordered):  # its successors may go
            await self.tell_keeper(delivery.subscription_id, delivery.event_name, delivery.url)
        elif delivery.status == "pending" and delivery.variant != TEST:
            try:
                async with temporal_call():
                    event = (self._store_code, delivery.event_id, delivery.event_name)
                    await self._acting.look_now(*event, message_id)
            except Unavailable:
                logger.warning("workflow of cancelled delivery %s not told: it ends when it looks next", message_id)

    async def _subscription(self, connection: AsyncConnection, subscription_id: UUID) -> SubscriptionRow:
        row = await find_subscription(connection, self._store_code, subscription_id, lock=True)
        if row is None:
            raise NotFound
        return row

    async def _delivery(self, connection: AsyncConnection, message_id: UUID) -> ActedOn:
        delivery = await delivery_for_act(connection, self._store_code, message_id)
        if delivery is None:
            raise NotFound
        return delivery

    async def _audit(
        self,
        connection: AsyncConnection,
        action: str,
        object_type: str,
        object_id: UUID,
        changes: Mapping[str, object] | None = None,
    ) -> None:
        await record(
            connection,
            actor=self._actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            store_code=self._store_code,
            changes=changes,
        )

    async def tell_keeper(self, subscription_id: UUID, event_name: str, url: str) -> None:
        """Have the keeper look at once. The act is written; were Temporal away, the workers' watch wakes it later."""
        try:
            async with temporal_call():
                await self._acting.probe_now(subscription_id, self._store_code, event_name, url)
        except Unavailable:
            logger.warning("keeper of subscription %s not told; the workers look for what is held", subscription_id)


def _refuse_test_or_silent(delivery: ActedOn) -> None:
    if delivery.variant == TEST:
        raise Conflict(_TESTS)
    if delivery.subscription_deleted:
        raise Conflict("Its subscription has been deleted, so there is nowhere to send it.")
    if (silent := _NOT_SENDING.get(delivery.subscription_status)) is not None:
        raise Conflict(silent)
