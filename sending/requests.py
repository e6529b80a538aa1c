"""Request of an attempt: body, the subscription's headers, signatures, and the texts to redact in the response."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import orjson

from domain.events.catalogue import CATALOGUE, secrets_in
from domain.urls.rules import NormalisedUrl, UrlRules, normalise_url
from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text
from domain.wire.jsontext import parse
from domain.wire.signing import signature_headers
from sending.http.client import OutgoingRequest
from storage.deliveries.open import OpenDelivery
from storage.sealing import Sealer
from telemetry.traceparent import TRACEPARENT, current_traceparent

TEST_HEADER = "X-Webhook-Test"
"""Header of a test's request, by which the receiver tells a sample from a real event."""


class RequestBuilder:
    """Builder of requests. Raises `UrlRefused`, `SealBrokenError`, or any error that damaged data causes."""

    def __init__(self, sealer: Sealer, rules: UrlRules, *, trace_receivers: bool = False) -> None:
        self._sealer = sealer
        self._trace_receivers = trace_receivers
        self._opened = lru_cache(maxsize=4096)(sealer.open)
        self._target: Callable[[str], NormalisedUrl] = lru_cache(maxsize=4096)(lambda url: normalise_url(url, rules))

    def build(self, delivery: OpenDelivery) -> OutgoingRequest:
        """Return the request of the delivery's next attempt, signed now."""
        subscription = delivery.subscription
        target = self._target(subscription.url)
        event = self._whole_event(delivery)
        message_id, request_id = str(delivery.message_id), str(delivery.request_id)
        body = _body(event, delivery, message_id, request_id)
        headers: list[tuple[str, str]] = [(TEST_HEADER, "true")] if delivery.is_test else []
        redact: list[str] = []
        if delivery.sealed_data is not None:
            redact += secrets_in(CATALOGUE[event.name], parse(event.data_text.encode()))
        if subscription.sealed_headers is not None:
            own = orjson.loads(self._opened(subscription.sealed_headers))
            headers += [(name, value) for name, value in own]
            redact += [value for _, value in own]
        if subscription.hmac_enabled and subscription.sealed_secret is not None:
            secret = self._opened(subscription.sealed_secret)
            sealed_previous = subscription.sealed_previous_secret
            previous = self._opened(sealed_previous) if sealed_previous is not None else None
            headers += signature_headers(
                method="POST",
                host=target.host,
                path=target.path,
                body=body,
                timestamp=int(time.time()),
                request_id=request_id,
                message_id=message_id,
                secret=secret,
                previous_secret=previous,
                version=subscription.signature_version,
            )
            redact += [key for key in (secret, previous) if key is not None]
        if self._trace_receivers:
            headers += _trace_header(headers)
        return OutgoingRequest(url=target, headers=headers, body=body, redact=tuple(redact))

    def _whole_event(self, delivery: OpenDelivery) -> EventFacts:
        if delivery.sealed_data is None:
            return delivery.event
        return replace(delivery.event, data_text=self._sealer.open(delivery.sealed_data))


def _trace_header(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the `traceparent` header of the current attempt, unless the subscription sets one or there is no trace."""
    traceparent = current_traceparent()
    if traceparent is None or any(name.lower() == TRACEPARENT for name, _ in headers):
        return []
    return [(TRACEPARENT, traceparent)]


def _body(event: EventFacts, delivery: OpenDelivery, message_id: str, request_id: str) -> bytes:
    if delivery.subscription.legacy:
        return legacy_body(event, delivery.variant, delivery.timezone)
    data = modern_data_text(event.name, event.data_text)
    return modern_body(event, data, message_id, request_id)
