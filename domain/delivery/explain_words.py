"""Fill the text and remedy of a reason with the facts of one case."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial

from domain.delivery.explain import REASONS, ExplainedDelivery, ExplainedEvent, ExplainedSubscription, ReasonCode
from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.delivery.notices import FAILING

STATUS_REASONS = {
    FailureKind.http_gone: "its receiver answered 410",
    FAILING: "its receiver failed for days without one success",
}
"""Reasons of automatic status changes of a subscription, for people."""


BACKFILLED = "A person had it backfilled."


@dataclass(frozen=True, slots=True)
class Words:
    """Explanation of one case: its text, and the remedy."""

    text: str
    remedy: str


def in_words(
    code: ReasonCode,
    event: ExplainedEvent | None = None,
    subscription: ExplainedSubscription | None = None,
    delivery: ExplainedDelivery | None = None,
    stores: tuple[str, ...] = (),
    rejected: tuple[datetime, str] | None = None,
    zone: tzinfo | None = None,
) -> Words:
    """Return the texts of a reason with the known facts filled in; times are in `zone`, or in UTC with its name."""
    at = partial(shown, zone=zone)
    known = {"stores": ", ".join(stores)}
    if rejected is not None:
        known |= {"rejected": at(rejected[0]), "because": rejected[1]}
    if event is not None:
        known |= {"event": event.name, "accepted": at(event.accepted_at), "matched": at(event.matched_at)}
        known |= {"erased": at(event.erased_at)}
    if subscription is not None:
        reason = subscription.status_reason
        known |= {
            "subscribed": subscription.event_name,
            "created": at(subscription.created_at),
            "active_from": at(subscription.active_from),
            "deleted": at(subscription.deleted_at),
            "status": subscription.status,
            "since": at(subscription.status_since),
            "why": STATUS_REASONS.get(reason or "", reason) or "no reason is noted",
            "breaker_since": at(subscription.breaker_opened_at),
            "probe": at(subscription.probe_at),
            "rate": str(subscription.rate_limit_per_second),
        }
    if delivery is not None:
        known |= _of_delivery(delivery, zone)
    explanation = REASONS[code]
    text = _filled(explanation.text, known)
    if delivery is not None and delivery.backfilled and code is not ReasonCode.backfilled:
        text = f"{BACKFILLED} {text}"
    return Words(text, _filled(explanation.remedy, known))


def _of_delivery(delivery: ExplainedDelivery, zone: tzinfo | None) -> dict[str, str]:
    failure = delivery.last_failure
    explained = EXPLANATIONS[FailureKind(failure)] if failure and failure in FailureKind.__members__ else None
    answered = f", status {delivery.last_status_code}" if delivery.last_status_code is not None else ""
    return {
        "ended": shown(delivery.ended_at, zone),
        "attempts": str(delivery.attempts),
        "failure": f"{failure}{answered}" if failure else "no answer is noted",
        "failure_meaning": explained.meaning if explained else "",
        "failure_remedy": explained.remedy if explained else "",
        "next_attempt": shown(delivery.next_attempt_at, zone),
        "behind": str(delivery.behind),
        "status_of_delivery": delivery.status,
        "reason": delivery.reason or "no reason is noted",
    }


def shown(instant: datetime | None, zone: tzinfo | None = None) -> str:
    """Return `2026-01-02 03:04:05 UTC`, or the time without a zone name if `zone` is given: it is the reader's own."""
    if instant is None:
        return "an unknown time"
    return instant.astimezone(zone or UTC).strftime("%Y-%m-%d %H:%M:%S" if zone else "%Y-%m-%d %H:%M:%S UTC")


def _filled(text: str, known: dict[str, str]) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda name: known[name[1]], text)
    return " ".join(filled.split())
