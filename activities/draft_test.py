"""Activity of webhook tests: one marked sample to a receiver, built and sent like the request of a delivery."""

import asyncio
import logging
from datetime import UTC, datetime
from uuid import UUID, uuid4

from temporalio import activity

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from domain.delivery.verdict import verdict
from domain.events.catalogue import CATALOGUE
from domain.urls.rules import UrlRefused
from domain.wire.bodies import TEST, EventFacts
from domain.wire.jsontext import dump
from sending.dispatcher import AttemptTakenError, Dispatcher
from sending.http.client import OutgoingRequest, Sender, SendResult, not_sent
from storage.access.audit import MASK
from storage.database import Database
from storage.deliveries.open import OpenDelivery, SubscriptionFacts, load
from storage.sealing import SealBrokenError
from storage.subscriptions.draft_tests import begin_draft_test, end_draft_test
from storage.subscriptions.tables import DraftTest
from temporal.guards import heartbeats, own_faults
from temporal.messages import DraftTestEnd, DraftTestRef

logger = logging.getLogger(__name__)

NOT_SENT = "not sent"


class DraftTestActivities:
    """Tests of saved webhooks and of drafts.

    Tests of drafts have an HTTP client of their own, so that they share no connection with deliveries.
    """

    def __init__(self, database: Database, dispatcher: Dispatcher, draft_sender: Sender) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._draft_sender = draft_sender

    @activity.defn(name="send-draft-test")
    async def send_draft_test(self, ref: DraftTestRef) -> DraftTestEnd:
        """Send the test once. A draft's test is not sent again if the worker dies meanwhile."""
        async with heartbeats():
            with own_faults():
                send = self._send_draft if ref.subscription_id is None else self._send_delivery
                return DraftTestEnd(await send(UUID(ref.test_id)))

    async def _send_delivery(self, message_id: UUID) -> str:
        """Make the one attempt of a saved webhook's test, which is a delivery in the log."""
        async with self._database.transaction() as connection:
            delivery = await load(connection, message_id)
        if delivery is None or delivery.status != DeliveryStatus.PENDING or self._dispatcher.taken(delivery):
            return NOT_SENT
        try:
            step = await asyncio.shield(self._dispatcher.begin(delivery, "test"))
        except AttemptTakenError:
            return NOT_SENT
        return step.failure or str(step.status_code)

    async def _send_draft(self, test_id: UUID) -> str:
        """Send the test of a draft and store request and response for the operator."""
        async with self._database.transaction() as connection:
            begun = await begin_draft_test(connection, test_id)
        if begun is None:
            return NOT_SENT
        test, timezone = begun
        _add_result(test, *await self._exchange(_delivery_of(test, timezone)))
        async with self._database.transaction() as connection:
            await end_draft_test(connection, test)
        return test.failure or str(test.status_code)

    async def _exchange(self, delivery: OpenDelivery) -> tuple[OutgoingRequest | None, SendResult]:
        try:
            request = self._dispatcher.requests.build(delivery)
        except UrlRefused as refused:
            return None, not_sent(FailureKind.blocked, str(refused))
        except SealBrokenError as error:
            return None, not_sent(FailureKind.internal, str(error))
        except Exception:
            logger.exception("request of draft test %s could not be built", delivery.message_id)
            return None, not_sent(FailureKind.internal, "the request could not be built; see the worker's log")
        return request, await self._draft_sender.send(request)


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
        hmac_enabled=draft.sealed_secret is not None,
        sealed_secret=draft.sealed_secret,
        sealed_previous_secret=None,
        signature_version=draft.signature_version,
        retry_schedule=None,
        max_concurrency=None,
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
        intended=False,
        sender_id=None,
        next_in_seconds=None,
        accepted_on=now.date(),
    )


def _add_result(test: DraftTest, request: OutgoingRequest | None, sent: SendResult) -> None:
    """Add the request with its secrets masked, and the response."""
    test.sent_headers = []
    if request is not None:
        shown = [[name, MASK if value in request.redact else value] for name, value in request.headers]
        test.sent_headers = [["Host", request.url.host], ["Content-Type", "application/json"], *shown]
        test.sent_body = request.body.decode()
    test.duration_ms = sent.duration_ms
    test.status_code = sent.status_code
    test.failure = verdict(sent.answer).failure
    test.detail = sent.detail or (f"Location: {sent.location}" if sent.location else None)
    test.response_excerpt = sent.excerpt or None
