"""Activity of webhook tests: one marked sample to a receiver, built and sent like the request of a delivery."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from temporalio import activity

from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from domain.delivery.verdict import verdict
from domain.events.catalogue import CATALOGUE
from domain.wire.authentication import AUTHORIZATION
from domain.wire.bodies import TEST, EventFacts
from domain.wire.excerpts import MASK
from domain.wire.jsontext import dump
from sending.dispatcher import LEASE_POLL_SECONDS, AttemptTakenError, Dispatcher
from sending.http.client import OutgoingRequest, Sender, SendResult
from storage.database import Database
from storage.deliveries.open import OpenDelivery, SubscriptionFacts, load
from storage.subscriptions.draft_tests import begin_draft_test, end_draft_test
from storage.subscriptions.tables import DraftTest
from temporal.guards import guarded
from temporal.messages import DraftTestEnd, DraftTestRef

NOT_SENT = "not sent"


@dataclass(eq=False)
class DraftTestActivities:
    """Tests of saved webhooks, sent by the dispatcher, and of drafts, which have an HTTP client of their own."""

    database: Database
    dispatcher: Dispatcher
    draft_sender: Sender

    @activity.defn(name="send-draft-test")
    async def send_draft_test(self, ref: DraftTestRef) -> DraftTestEnd:
        """Send the test once. A draft's test is not sent again if the worker dies meanwhile."""
        async with guarded():
            send = self._send_draft if ref.subscription_id is None else self._send_delivery
            return DraftTestEnd(await send(UUID(ref.test_id)))

    async def _send_delivery(self, message_id: UUID) -> str:
        """Make the one attempt of a saved webhook's test, which is a delivery in the log."""
        while True:
            delivery = await self.database.run(load, message_id)
            if delivery is None or delivery.status != DeliveryStatus.PENDING or self.dispatcher.sending(delivery):
                return NOT_SENT
            if not self.dispatcher.taken(delivery):
                with suppress(AttemptTakenError):
                    step = await asyncio.shield(self.dispatcher.begin(delivery, "test"))
                    break
            await asyncio.sleep(LEASE_POLL_SECONDS)  # its worker has died, or is not known to have died
        return step.failure or str(step.status_code)

    async def _send_draft(self, test_id: UUID) -> str:
        """Send the test of a draft and store request and response for the operator."""
        begun = await self.database.run(begin_draft_test, test_id)
        if begun is None:
            return NOT_SENT
        test, timezone = begun
        request = self.dispatcher.requests.build_or_fail(_delivery_of(test, timezone), "draft test")
        if isinstance(request, OutgoingRequest):
            _add_result(test, request, await self.draft_sender.send(request))
        else:
            _add_result(test, None, request)
        await self.database.run(end_draft_test, test)
        return test.failure or str(test.status_code)


def _delivery_of(draft: DraftTest, timezone: str) -> OpenDelivery:
    """Return the delivery of a sample event that the draft would get. It is in no table."""
    now = datetime.now(UTC)
    subscription = SubscriptionFacts(
        id=draft.id,
        url=draft.url,
        legacy=draft.legacy,
        status=SubscriptionStatus.ACTIVE,
        deleted=False,
        sealed_headers=draft.sealed_headers,
        sealed_authentication=draft.sealed_authentication,
        hmac_enabled=draft.sealed_secret is not None,
        sealed_secret=draft.sealed_secret,
        sealed_previous_secret=None,
        signature_version=draft.signature_version,
        retry_schedule=None,
        max_concurrency=None,
        timeout_seconds=draft.timeout_seconds,
        updated_at=now,
    )
    sample = dump(CATALOGUE[draft.event_name].sample)
    created_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return OpenDelivery(
        message_id=draft.id,
        event=EventFacts(uuid4(), draft.event_name, draft.store_code, created_at, sample),
        sealed_data=None,
        variant=TEST,
        subscription=subscription,
        timezone=timezone,
        status=DeliveryStatus.PENDING,
        number=1,
        failures=0,
        request_id=uuid4(),
        accepted_on=now.date(),
    )


def _add_result(test: DraftTest, request: OutgoingRequest | None, sent: SendResult) -> None:
    """Add the request with its secrets masked, and the response."""
    test.sent_headers = []
    if request is not None:
        shown = [[name, MASK if value in request.redact else value] for name, value in request.headers]
        if request.oauth2 is not None:
            shown.append([AUTHORIZATION, MASK])
        test.sent_headers = [["Host", request.url.host], ["Content-Type", "application/json"], *shown]
        test.sent_body = request.body.decode()
    test.duration_ms = sent.duration_ms
    test.status_code = sent.status_code
    test.failure = verdict(sent.answer).failure
    test.detail = sent.stored_detail
    test.response_excerpt = sent.excerpt or None
