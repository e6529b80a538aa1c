"""The request of an attempt as it was sent, and a `curl` that sends it again. Of no secret more than its name.

Headers are not stored: they are those the sender adds, and the subscription's as it is now.
"""

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.deliveries.sent_body import SentBody
from domain.wire.bodies import TEST
from domain.wire.signing import ALGORITHM
from storage.deliveries.log import AttemptRow, DeliveryRow
from storage.sealing import SealBrokenError, Sealer
from storage.subscriptions.queries import SubscriptionRow, open_headers

ARGUMENT_BYTES = 100_000
"""A longer body stands in a file beside the `curl`: Linux takes no argument of more than 128 KiB."""


@dataclass(frozen=True, slots=True)
class SentHeader:
    """`value` is None where it is secret or holds only for the moment of sending."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class SentRequest:
    """`headers` in the order in which they were sent."""

    url: str
    headers: list[SentHeader]
    own_headers_known: bool
    body: SentBody
    method: str = "POST"

    @property
    def curl(self) -> str | None:
        """A command for a shell; None without a body. Placeholders such as `<AUTHORIZATION>` stand for secrets."""
        if self.body.text is None:
            return None
        large = len(self.body.text.encode()) > ARGUMENT_BYTES
        parts = [f"curl -sS -i --globoff -X {self.method} " + shlex.quote(self.url)]
        parts += [
            "-H " + shlex.quote(f"{header.name}: {header.value or f'<{header.name.upper()}>'}")
            for header in self.headers
            if header.name not in ("Host", "Content-Length")
        ]
        parts.append("--data-binary @body.json" if large else "--data-raw " + shlex.quote(self.body.text))
        return " \\\n  ".join(parts)


def sent_request(
    delivery: DeliveryRow,
    attempt: AttemptRow,
    subscription: SubscriptionRow | None,
    body: SentBody,
    user_agent: str,
    sealer: Sealer,
) -> SentRequest:
    """What the attempt sent. `subscription` is None when it is deleted: what it added is not known any more."""
    headers = [
        SentHeader("Host", urlsplit(delivery.url).netloc),
        SentHeader("Content-Type", "application/json"),
        SentHeader("Content-Length", None if body.size_bytes is None else str(body.size_bytes)),
        SentHeader("Accept-Encoding", "identity"),
    ]
    if delivery.variant == TEST:
        headers.append(SentHeader("X-Webhook-Test", "true"))
    names = _own_names(subscription, sealer)
    headers += [SentHeader(name, None) for name in names or ()]
    if subscription is not None and subscription.hmac_enabled:
        headers += _signature(delivery, attempt, subscription.signature_version)
    if "user-agent" not in {name.lower() for name in names or ()}:
        headers.append(SentHeader("User-Agent", user_agent))
    return SentRequest(delivery.url, headers, names is not None, body)


def _own_names(subscription: SubscriptionRow | None, sealer: Sealer) -> list[str] | None:
    if subscription is None:
        return None
    try:
        return [header.name for header in open_headers(subscription.sealed_headers, sealer)]
    except SealBrokenError:
        return None


def _signature(delivery: DeliveryRow, attempt: AttemptRow, version: int) -> list[SentHeader]:
    return [
        SentHeader("X-Webhook-Signature", None),
        SentHeader("X-Webhook-Signature-Algorithm", ALGORITHM),
        SentHeader("X-Webhook-Timestamp", None),
        SentHeader("X-Webhook-Request-Id", str(attempt.request_id)),
        SentHeader("X-Webhook-Signature-Version", str(version)),
        SentHeader("webhook-id", str(delivery.message_id)),
        SentHeader("webhook-timestamp", None),
        SentHeader("webhook-signature", None),
    ]
