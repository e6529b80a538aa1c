"""Tries a receiver before its webhook is saved: one request, made and sent as a delivery's would be."""

import logging
from datetime import UTC, datetime
from uuid import UUID, uuid4

from temporalio import activity

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.lifecycle import DeliveryStatus, SubscriptionStatus
from domain.delivery.verdict import verdict
from domain.events.catalogue import CATALOGUE
from domain.urls.rules import UrlRefused, UrlRules
from domain.wire.bodies import TEST, EventFacts
from domain.wire.jsontext import dump
from sending.attempt_log import not_sent
from sending.http.client import OutgoingRequest, Sender, SendResult
from sending.requests import RequestBuilder
from storage.access.audit import MASK
from storage.database import Database
from storage.deliveries.open import OpenDelivery, SubscriptionFacts
from storage.operations.draft_tests import BegunTrial, TrialResult, begin_trial, end_trial
from storage.sealing import SealBrokenError, Sealer
from temporal.guards import heartbeats, own_faults
from temporal.messages import TrialEnd, TrialRef

logger = logging.getLogger(__name__)


class TrialActivities:
    """What trying a receiver takes. The sender is one of its own: trials and deliveries share no connection."""

    def __init__(self, database: Database, sender: Sender, sealer: Sealer, rules: UrlRules) -> None:
        self._database = database
        self._sender = sender
        self._requests = RequestBuilder(sealer, rules)

    @activity.defn(name="try-webhook")
    async def try_webhook(self, ref: TrialRef) -> TrialEnd:
        """Send it once; asked again, it is not sent again."""
        trial_id = UUID(ref.trial_id)
        async with heartbeats():
            with own_faults():
                async with self._database.transaction() as connection:
                    trial = await begin_trial(connection, trial_id)
                if trial is None:
                    return TrialEnd("not sent")
                request, result = await self._tried(delivery_of(trial_id, trial))
                kept = _kept(request, result)
                async with self._database.transaction() as connection:
                    await end_trial(connection, trial_id, kept)
        return TrialEnd(kept.failure or str(kept.status_code))

    async def _tried(self, delivery: OpenDelivery) -> tuple[OutgoingRequest | None, SendResult]:
        try:
            request = self._requests.build(delivery)
        except UrlRefused as refused:
            return None, not_sent(FailureKind.blocked, str(refused))
        except SealBrokenError as error:
            return None, not_sent(FailureKind.internal, str(error))
        except Exception:
            logger.exception("request of trial %s could not be built", delivery.message_id)
            return None, not_sent(FailureKind.internal, "the request could not be built; see the worker's log")
        return request, await self._sender.send(request)


def delivery_of(trial_id: UUID, trial: BegunTrial) -> OpenDelivery:
    """The delivery there would be, of a sample of the event to a webhook of this draft. No row knows of it."""
    draft, now = trial.draft, datetime.now(UTC)
    subscription = SubscriptionFacts(
        id=trial_id,
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
        message_id=trial_id,
        event=EventFacts(uuid4(), draft.event_name, draft.store_code, created_at, sample),
        sealed_data=None,
        variant=TEST,
        subscription=subscription,
        timezone=trial.timezone,
        status=DeliveryStatus.PENDING,
        number=1,
        failures=0,
        request_id=uuid4(),
        intended=False,
        sender_id=None,
        next_in_seconds=None,
        accepted_on=now.date(),
    )


def _kept(request: OutgoingRequest | None, result: SendResult) -> TrialResult:
    judged = verdict(result.answer)
    headers: list[tuple[str, str]] = []
    if request is not None:
        shown = [(name, MASK if value in request.redact else value) for name, value in request.headers]
        headers = [("Host", request.url.host), ("Content-Type", "application/json"), *shown]
    return TrialResult(
        sent_headers=headers,
        sent_body=None if request is None else request.body.decode(),
        duration_ms=result.duration_ms,
        status_code=result.status_code,
        failure=judged.failure,
        detail=result.detail or (f"Location: {result.location}" if result.location else None),
        response_excerpt=result.excerpt or None,
    )
