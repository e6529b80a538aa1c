"""Operator notices about a store's subscriptions, and the rule that disables a failing subscription."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from domain.delivery.failure_kinds import failure_explanation
from domain.delivery.lifecycle import Reason

BY_PERSON = "by_person"
"""Placeholder in a notice for the person who disabled a subscription; names stay in the audit."""

FAILING = "failing"
"""Reason of a subscription disabled because its receiver failed for too long."""

NOTICES_A_ROUND = 50
"""Maximum number of notices of one store sent per round; the rest follows in the next round."""


class NoticeKind(StrEnum):
    """The `type` of an operational webhook."""

    FAILING = "subscription.failing"
    RECOVERED = "subscription.recovered"
    DISABLED = "subscription.disabled"
    EXHAUSTED = "delivery.exhausted"
    CERTIFICATE_EXPIRING = "subscription.certificate_expiring"


_KIND_WORDS: Mapping[NoticeKind, str] = {
    NoticeKind.FAILING: "receiver failing, deliveries held",
    NoticeKind.RECOVERED: "receiver recovered",
    NoticeKind.DISABLED: "webhook disabled",
    NoticeKind.EXHAUSTED: "gave up a delivery",
    NoticeKind.CERTIFICATE_EXPIRING: "client certificate expires",
}
"""Kinds in words, for the mail."""

_REASON_WORDS = {
    FAILING: "failed for days without success",
    BY_PERSON: "by a person",
    Reason.SCHEDULE_USED_UP: "retry schedule used up",
}
"""Reasons that are no failure kinds in words."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Events of one kind at one subscription within one minute. `target` is host and path of its URL."""

    id: UUID
    kind: NoticeKind
    store_code: str
    subscription_id: UUID
    event_name: str
    target: str
    count: int
    reasons: tuple[str, ...]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class DisableRules:
    """Limits for disabling a failing subscription: time without a success, and number of undelivered deliveries."""

    failing_seconds: float
    deliveries: int


def is_given_up(rules: DisableRules, *, failing_seconds: float | None, deliveries: int) -> bool:
    """Return True if the subscription of a receiver that has just failed again is to be disabled.

    `failing_seconds` is the time since the first failure after the last success, None without such a failure;
    `deliveries` counts deliveries that are waiting or ended without success since then.
    """
    return failing_seconds is not None and failing_seconds >= rules.failing_seconds and deliveries >= rules.deliveries


def notice_body(notice: Notice) -> bytes:
    """Return the body of an operational webhook, in the envelope of Standard Webhooks; repeats have the same bytes."""
    data = {
        "storeCode": notice.store_code,
        "webhookSubscriptionId": str(notice.subscription_id),
        "eventName": notice.event_name,
        "target": notice.target,
        "reasons": list(notice.reasons),
        "count": notice.count,
        "lastAt": _instant(notice.last_at),
    }
    envelope = {"type": notice.kind.value, "timestamp": _instant(notice.first_at), "data": data}
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def notice_line(notice: Notice) -> str:
    """Return the notice as one line of text for people."""
    reasons = f", {', '.join(map(_reason_in_words, notice.reasons))}" if notice.reasons else ""
    times = f", {notice.count} times" if notice.count > 1 else ""
    return (
        f"{_instant(notice.first_at)} {kind_in_words(notice.kind)}{reasons}{times}: "
        f"webhook {notice.event_name} to {notice.target}, id {notice.subscription_id}"
    )


def kind_in_words(kind: NoticeKind) -> str:
    return f"{_KIND_WORDS[kind]} ({kind})"


def _reason_in_words(reason: str) -> str:
    explanation = failure_explanation(reason)
    words = explanation.words if explanation else _REASON_WORDS.get(reason)
    return f"{words} ({reason})" if words else reason


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
