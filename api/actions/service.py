"""A person's acts on subscriptions and deliveries: what may be done when, audited in the transaction that does it."""

import logging
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, NotFound, Unavailable
from api.resources import Resources
from api.temporal_calls import temporal_call
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.wire.bodies import TEST
from storage.access.audit import changed, record
from storage.deliveries.transitions import cancel
from storage.operations.actions import ActedOn, delivery_for_action
from storage.subscriptions.queries import SubscriptionRow, find_subscription
from storage.subscriptions.status import disable, enable, pause, resume

logger = logging.getLogger(__name__)

StatusAction = Literal["pause", "resume", "disable", "enable"]

_REACHES: Mapping[str, SubscriptionStatus] = {
    "pause": SubscriptionStatus.PAUSED,
    "resume": SubscriptionStatus.ACTIVE,
    "disable": SubscriptionStatus.DISABLED,
    "enable": SubscriptionStatus.ACTIVE,
}
_DOES_NOT_END: Mapping[tuple[str, str], str] = {
    ("pause", SubscriptionStatus.DISABLED): "It is disabled, so nothing is sent anyway; enable it first.",
    ("resume", SubscriptionStatus.DISABLED): "It is disabled, not paused; enable it.",
    ("enable", SubscriptionStatus.PAUSED): "It is paused, not disabled; resume it.",
}
_ENDED: Mapping[str, str] = {
    DeliveryStatus.DELIVERED: "It has been delivered already; redeliver sends it once more.",
    DeliveryStatus.EXHAUSTED: "It has ended without success; redeliver tries it once more, recover begins its schedule "
    "anew.",
    DeliveryStatus.CANCELLED: "It has been cancelled; redeliver tries it once more, recover begins its schedule anew.",
}
_NOT_SENDING: Mapping[str, str] = {
    SubscriptionStatus.PAUSED: "Its subscription is paused: resume it first, or send a test.",
    SubscriptionStatus.DISABLED: "Its subscription is disabled: enable it first, or send a test.",
}
_TESTS = "It is a test, which is sent once; send another."


class OperatorActions:
    """OperatorActions of one person in one store."""

    def __init__(self, resources: Resources, store_code: str, actor: str) -> None:
        self._database = resources.database
        self._acting = resources.acting
        self._store_code = store_code
        self._actor = actor

    async def change_status(self, subscription_id: UUID, act: StatusAction) -> SubscriptionRow:
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
            await self.wake_drain(after.id, after.event_name, after.url)
        return after

    async def _set_status(self, connection: AsyncConnection, subscription_id: UUID, act: StatusAction) -> None:
        if act == "pause":
            await pause(connection, subscription_id, reason=f"by {self._actor}")
        elif act == "resume":
            await resume(connection, subscription_id)
        elif act == "disable":
            await disable(connection, subscription_id, reason=f"by {self._actor}")
        else:
            await enable(connection, subscription_id)

    async def redeliver(self, message_id: UUID) -> None:
        """One more attempt of a delivery that has ended. Raises Conflict, NotFound, Unavailable."""
        async with self._database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status in OPEN:
                raise Conflict(f"It is still being delivered ({delivery.status}); send-now does not wait for its turn.")
            _refuse_test_or_silent(delivery)
            await self._audit(connection, "redeliver", "delivery", message_id)
        await self._attempt_once(delivery, "redeliver")

    async def send_now(self, message_id: UUID) -> None:
        """One attempt of an open delivery at once, whatever holds it. Raises Conflict, NotFound, Unavailable.

        A failure leaves its failures and its schedule as they were.
        """
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
        await self._attempt_once(delivery, "send-now")

    async def _attempt_once(self, delivery: ActedOn, action: Literal["redeliver", "send-now"]) -> None:
        """Begin the attempt; a refused or failed begin is audited. Raises Conflict, Unavailable."""
        try:
            async with temporal_call():
                begun = await self._acting.attempt_once(delivery, self._store_code, action)
        except Unavailable:
            await self._audit_outcome(action, delivery, "not started: Temporal is unavailable")
            raise
        if not begun:
            await self._audit_outcome(action, delivery, "refused: an attempt that was asked for is under way")
            raise Conflict("An attempt that was asked for is under way; wait until it has ended.")

    async def _audit_outcome(self, action: str, delivery: ActedOn, outcome: str) -> None:
        async with self._database.transaction() as connection:
            await self._audit(connection, action, "delivery", delivery.message_id, {"outcome": outcome})

    async def cancel(self, message_id: UUID) -> None:
        """End an open delivery, or let the successors of an exhausted one go on. Raises Conflict, NotFound.

        An attempt under way is finished, and may succeed.
        """
        async with self._database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status not in OPEN and not delivery.holds_group:
                raise Conflict(_ENDED[delivery.status].partition(";")[0] + ".")
            await cancel(connection, message_id)
            await self._audit(connection, "cancel", "delivery", message_id)
        # The successors of a delivery that was in front of an ordered subscription may go now.
        if delivery.holds_group or (delivery.status == DeliveryStatus.HELD and delivery.ordered):
            await self.wake_drain(delivery.subscription_id, delivery.event_name, delivery.url)
        elif delivery.retry_id is not None:
            try:
                async with temporal_call():
                    await self._acting.end_retry(delivery.retry_id)
            except Unavailable:
                logger.warning("activity %s of a cancelled delivery not ended: it ends when due", delivery.retry_id)

    async def _subscription(self, connection: AsyncConnection, subscription_id: UUID) -> SubscriptionRow:
        row = await find_subscription(connection, self._store_code, subscription_id, lock=True)
        if row is None:
            raise NotFound
        return row

    async def _delivery(self, connection: AsyncConnection, message_id: UUID) -> ActedOn:
        delivery = await delivery_for_action(connection, self._store_code, message_id)
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

    async def wake_drain(self, subscription_id: UUID, event_name: str, url: str) -> None:
        """Have the drain look at once. The act is committed; were Temporal away, the workers' watch wakes it later."""
        try:
            async with temporal_call():
                await self._acting.wake_drain(subscription_id, self._store_code, event_name, url)
        except Unavailable:
            logger.warning("drain of subscription %s not told; the workers look for what is held", subscription_id)


def _refuse_test_or_silent(delivery: ActedOn) -> None:
    if delivery.variant == TEST:
        raise Conflict(_TESTS)
    if delivery.subscription_deleted:
        raise Conflict("Its subscription has been deleted, so there is nowhere to send it.")
    if (silent := _NOT_SENDING.get(delivery.subscription_status)) is not None:
        raise Conflict(silent)
