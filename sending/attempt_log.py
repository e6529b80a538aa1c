"""What is written of an attempt: the row of its outcome, and its line in the log."""

from datetime import UTC, datetime

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.identity import drain_workflow_id
from domain.delivery.lifecycle import DeliveryStatus, Step
from domain.urls.targets import shown_target
from sending.http.client import SendResult
from storage.deliveries.attempts import Outcome
from storage.deliveries.open import OpenDelivery


def outcome_of(
    delivery: OpenDelivery,
    step: Step,
    result: SendResult | None = None,
    failure: FailureKind | None = None,
    body_digest: bytes | None = None,
) -> Outcome:
    """What a step makes of the delivery, and of the request what is kept, if one was made."""
    return Outcome(
        accepted_on=delivery.accepted_on,
        message_id=delivery.message_id,
        number=delivery.number,
        began_seconds_ago=0,
        duration_ms=result.duration_ms if result is not None else None,
        status_code=result.status_code if result is not None else None,
        failure=failure,
        detail=_detail(result) if result is not None else None,
        response_excerpt=result.excerpt or None if result is not None else None,
        body_sha256=body_digest,
        url=delivery.subscription.url,
        status=step.status,
        reason=step.reason,
        failures=step.failures,
        next_in_seconds=step.next_in_seconds,
        workflow_id=_keeper(delivery, step),
        holds_group=delivery.subscription.holds_group and not delivery.is_test,
        retry_after_seconds=None if result is None else result.retry_after_seconds,
    )


def facts_of(delivery: OpenDelivery, failure: FailureKind, result: SendResult, step: Step) -> dict[str, object]:
    """One line of the log, with every id by which somebody may look for it; nothing of body, headers or answer."""
    return {
        "store_code": delivery.event.store_code,
        "event_id": str(delivery.event.event_id),
        "event_name": delivery.event.name,
        "subscription_id": str(delivery.subscription.id),
        "message_id": str(delivery.message_id),
        "attempt": delivery.number,
        "target": shown_target(delivery.subscription.url),
        "failure": failure,
        "status_code": result.status_code,
        "duration_ms": result.duration_ms,
        "delivery_status": step.status,
        "next_in_seconds": step.next_in_seconds,
    }


def not_sent(failure: FailureKind, detail: str) -> SendResult:
    """The result of an attempt that ended before its request went out."""
    return SendResult(None, failure, None, None, "", detail, datetime.now(UTC), 0)


def _detail(result: SendResult) -> str | None:
    return result.detail or (f"Location: {result.location}" if result.location else None)


def _keeper(delivery: OpenDelivery, step: Step) -> str | None:
    """Return the workflow that owns the delivery from now on; None when it stays with its first attempts'."""
    return drain_workflow_id(delivery.subscription.id) if step.status == DeliveryStatus.HELD else None
