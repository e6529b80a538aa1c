"""Operator actions on subscriptions and deliveries: preconditions and effects, audited in the same transaction."""

import logging
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, Unavailable, existing
from api.refusals import temporal_call
from api.store_actions import StoreActions
from domain.delivery.lifecycle import OPEN, STATUS_WORDS, DeliveryStatus, SubscriptionStatus
from domain.wire.bodies import TEST
from storage.access.audit import changed
from storage.deliveries.actions import ActedOn, delivery_for_action
from storage.deliveries.transitions import cancel
from storage.subscriptions.queries import (
    SubscriptionRow,
    disable,
    enable,
    find_subscription,
    lock_health,
    pause,
    resume,
)

logger = logging.getLogger(__name__)

StatusAction = Literal["pause", "resume", "disable", "enable"]

_REACHES: Mapping[str, SubscriptionStatus] = {
    "pause": SubscriptionStatus.PAUSED,
    "resume": SubscriptionStatus.ACTIVE,
    "disable": SubscriptionStatus.DISABLED,
    "enable": SubscriptionStatus.ACTIVE,
}
_NOT_APPLICABLE: Mapping[tuple[str, str], str] = {
    ("pause", SubscriptionStatus.DISABLED): "The webhook is disabled, so nothing is sent anyway; enable it first.",
    ("resume", SubscriptionStatus.DISABLED): "The webhook is disabled, not paused; enable it.",
    ("enable", SubscriptionStatus.PAUSED): "The webhook is paused, not disabled; resume it.",
}
_ENDED: Mapping[str, str] = {
    DeliveryStatus.DELIVERED: "The delivery has succeeded already; redeliver sends it once more.",
    DeliveryStatus.EXHAUSTED: "The delivery gave up; redeliver tries it once more, recover restarts its schedule.",
    DeliveryStatus.CANCELLED: "The delivery is cancelled; redeliver tries it once more, recover restarts its schedule.",
}
_NOT_SENDING: Mapping[str, str] = {
    SubscriptionStatus.PAUSED: "Its webhook is paused: resume it first, or send a test.",
    SubscriptionStatus.DISABLED: "Its webhook is disabled: enable it first, or send a test.",
}


class OperatorActions(StoreActions):
    """Operator actions of one caller in one store."""

    async def change_status(self, subscription_id: UUID, action: StatusAction) -> SubscriptionRow:
        """Bring a subscription to the action's status and return it. A subscription of that status stays unchanged.

        Raises Conflict if the action does not apply to the current status, NotFound.
        """
        async with self.resources.database.transaction() as connection:
            if action == "enable":
                await lock_health(connection, subscription_id)
            before = await self._subscription(connection, subscription_id)
            if (refusal := _NOT_APPLICABLE.get((action, before.status))) is not None:
                raise Conflict(refusal)
            after = before
            if before.status != _REACHES[action]:
                if action in ("pause", "disable"):
                    stop = pause if action == "pause" else disable
                    await stop(connection, subscription_id, reason=f"by {self.actor}")
                else:
                    start = resume if action == "resume" else enable
                    await start(connection, subscription_id)
                after = await self._subscription(connection, subscription_id)
                changes = changed({"status": before.status}, {"status": after.status})
                await self.record(connection, action, "subscription", subscription_id, changes)
        if action != "pause":  # the drain has held deliveries to send (resume, enable) or to end (disable)
            # One that waits for its next probe ignores a mere wake signal.
            at_once = action in ("resume", "disable") and before.status != after.status
            await self.wake_drain(after.id, after.event_name, after.url, probe_now=at_once)
        return after

    async def _subscription(self, connection: AsyncConnection, subscription_id: UUID) -> SubscriptionRow:
        return existing(await find_subscription(connection, self.store_code, subscription_id, lock=True))

    async def redeliver(self, message_id: UUID) -> None:
        """Attempt an ended delivery once more. Raises Conflict, NotFound, Unavailable."""
        async with self.resources.database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status in OPEN:
                raise Conflict(f"The delivery is {STATUS_WORDS[delivery.status]}; send-now attempts it at once.")
            _refuse_test_or_silent(delivery)
            await self.record(connection, "redeliver", "delivery", message_id)
        await self._attempt_once(delivery, "redeliver")

    async def send_now(self, message_id: UUID) -> None:
        """Attempt an open delivery at once. Raises Conflict, NotFound, Unavailable.

        Breaker, limits and schedule do not hold it; a pause, or a predecessor in its FIFO group, does.
        A failed attempt changes neither the delivery's failure count nor its schedule.
        """
        async with self.resources.database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if (ended := _ENDED.get(delivery.status)) is not None:
                raise Conflict(ended)
            _refuse_test_or_silent(delivery)
            if delivery.behind is not None:
                raise Conflict(
                    f"The webhook is ordered: delivery {delivery.behind} comes first; send, redeliver or cancel it."
                )
            await self.record(connection, "send-now", "delivery", message_id)
        await self._attempt_once(delivery, "send-now")

    async def _attempt_once(self, delivery: ActedOn, action: Literal["redeliver", "send-now"]) -> None:
        """Start the attempt; a refused or failed start is audited. Raises Conflict, Unavailable."""
        refusal: Conflict | Unavailable
        try:
            async with temporal_call():
                if await self.resources.starts.attempt_once(delivery, self.store_code, action):
                    return
            outcome = "refused: another manual attempt is in progress"
            refusal = Conflict("Another manual attempt is in progress; wait until it has ended.")
        except Unavailable as unavailable:
            # After a time-out, Temporal may have started it.
            outcome, refusal = f"start not confirmed: {unavailable.message}", unavailable
        await self.resources.database.run(self.record, action, "delivery", delivery.message_id, {"outcome": outcome})
        raise refusal

    async def cancel(self, message_id: UUID) -> None:
        """Cancel an open delivery, or release the successors of an exhausted one. Raises Conflict, NotFound.

        An attempt in progress finishes and may succeed.
        """
        async with self.resources.database.transaction() as connection:
            delivery = await self._delivery(connection, message_id)
            if delivery.status not in OPEN and not delivery.holds_group:
                raise Conflict(_ENDED[delivery.status].partition(";")[0] + ".")
            await cancel(connection, message_id)
            await self.record(connection, "cancel", "delivery", message_id)
        # The delivery may have been at the head of its FIFO group: wake the drain to send its successors.
        if delivery.holds_group or (delivery.status == DeliveryStatus.HELD and delivery.ordered):
            await self.wake_drain(delivery.subscription_id, delivery.event_name, delivery.url)
        elif delivery.retry_id is not None:
            try:
                async with temporal_call():
                    await self.resources.starts.end_retry(delivery.retry_id)
            except Unavailable:
                logger.warning(
                    "activity %s of a cancelled delivery not terminated (Temporal unavailable), it ends without "
                    "sending when due",
                    delivery.retry_id,
                )

    async def _delivery(self, connection: AsyncConnection, message_id: UUID) -> ActedOn:
        return existing(await delivery_for_action(connection, self.store_code, message_id))


def _refuse_test_or_silent(delivery: ActedOn) -> None:
    if delivery.variant == TEST:
        raise Conflict("The delivery is a test, which is sent once; send a new test.")
    if delivery.subscription_deleted:
        raise Conflict("Its webhook has been deleted, so there is nowhere to send it.")
    if (silent := _NOT_SENDING.get(delivery.subscription_status)) is not None:
        raise Conflict(silent)
