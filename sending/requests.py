"""Request of an attempt: body, the subscription's headers, signatures, and the texts to redact in the response."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import orjson

from domain.delivery.failure_kinds import FailureKind
from domain.events.catalogue import CATALOGUE, secrets_in
from domain.urls.rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from domain.wire.authentication import (
    AUTHORIZATION,
    SECRETS,
    AuthenticationValues,
    client_certificate,
    credentials,
    oauth2_client,
)
from domain.wire.bodies import legacy_body, modern_body, modern_data_text
from domain.wire.client_certificate import ClientCertificate
from domain.wire.jsontext import parse
from domain.wire.oauth2 import OAuth2Client, client_basic
from domain.wire.signing import signature_headers
from sending.http.client import OutgoingRequest, SendResult, not_sent
from storage.deliveries.open import OpenDelivery
from storage.sealing import SealBrokenError, Sealer
from telemetry.tracing import TRACEPARENT, current_traceparent

logger = logging.getLogger(__name__)

TEST_HEADER = "X-Webhook-Test"
"""Header of a test's request, by which the receiver tells a sample from a real event."""


@dataclass(frozen=True, slots=True)
class RequestCredentials:
    """Credentials that an authentication adds to each request, and the values to redact from its response."""

    headers: Sequence[tuple[str, str]]
    redact: Sequence[str]
    certificate: ClientCertificate | None
    oauth2: OAuth2Client | None

    @classmethod
    def of(cls, authentication: AuthenticationValues) -> Self:
        """Return the credentials of an authentication."""
        certificate, oauth2 = client_certificate(authentication), oauth2_client(authentication)
        if certificate is not None:  # A receiver never sees the key, so it echoes none.
            return cls((), (), certificate, None)
        value = client_basic(oauth2) if oauth2 is not None else credentials(authentication)
        redact = [value, *(authentication[name] for name in SECRETS & authentication.keys())]
        return cls([(AUTHORIZATION, value)] if oauth2 is None else (), redact, None, oauth2)


class RequestBuilder:
    """Builder of requests. `trace_receivers`: a request names the span of its attempt."""

    def __init__(self, sealer: Sealer, rules: UrlRules, *, trace_receivers: bool = False) -> None:
        self._sealer = sealer
        self._trace_receivers = trace_receivers
        self._opened = lru_cache(maxsize=4096)(sealer.open)
        self._credentials: Callable[[bytes], RequestCredentials] = lru_cache(maxsize=4096)(
            lambda sealed: RequestCredentials.of(orjson.loads(sealer.open(sealed)))
        )
        self._target: Callable[[str], NormalisedUrl] = lru_cache(maxsize=4096)(lambda url: normalise_url(url, rules))

    def build_or_fail(self, delivery: OpenDelivery, kind: str = "delivery") -> OutgoingRequest | SendResult:
        """Return the request, or the result of an attempt whose request cannot be built. `kind` is for the log."""
        if delivery.erased:
            return not_sent(FailureKind.event_erased, "the event's data is no longer stored")
        try:
            return self._build(delivery)
        except UrlRefused as refused:
            return not_sent(FailureKind.blocked, str(refused))
        except SealBrokenError as error:
            return not_sent(FailureKind.internal, str(error))
        except Exception:  # damaged data may cause any error
            logger.exception("request of %s %s could not be built", kind, delivery.message_id)
            return not_sent(FailureKind.internal, "the request could not be built; see the worker's log")

    def _build(self, delivery: OpenDelivery) -> OutgoingRequest:
        """Return the request of the delivery's next attempt, signed now."""
        subscription, event = delivery.subscription, delivery.event
        target = self._target(subscription.url)
        message_id, request_id = str(delivery.message_id), str(delivery.request_id)
        headers: list[tuple[str, str]] = [(TEST_HEADER, "true")] if delivery.is_test else []
        redact: list[str] = []
        signed_at: int | None = None
        if delivery.sealed_data is not None:
            event = replace(event, data_text=self._sealer.open(delivery.sealed_data))
            redact += secrets_in(CATALOGUE[event.name], parse(event.data_text.encode()))
        if subscription.legacy:
            body = legacy_body(event, delivery.variant, delivery.timezone)
        else:
            body = modern_body(event, modern_data_text(event.name, event.data_text), message_id, request_id)
        if subscription.sealed_headers is not None:
            own = orjson.loads(self._opened(subscription.sealed_headers))
            headers += [(name, value) for name, value in own]
            redact += [value for _, value in own]
        certificate = oauth2 = None
        if subscription.sealed_authentication is not None:
            own_credentials = self._credentials(subscription.sealed_authentication)
            headers += own_credentials.headers
            redact += own_credentials.redact
            certificate, oauth2 = own_credentials.certificate, own_credentials.oauth2
        if subscription.hmac_enabled and subscription.sealed_secret is not None:
            secret = self._opened(subscription.sealed_secret)
            sealed_previous = subscription.sealed_previous_secret
            previous = self._opened(sealed_previous) if sealed_previous is not None else None
            signed_at = int(time.time())
            headers += signature_headers(
                method="POST",
                host=target.host,
                path=target.path,
                body=body,
                timestamp=signed_at,
                request_id=request_id,
                message_id=message_id,
                secret=secret,
                previous_secret=previous,
                version=subscription.signature_version,
            )
            redact += [key for key in (secret, previous) if key is not None]
        traceparent = current_traceparent() if self._trace_receivers else None
        if traceparent is not None and not any(name.lower() == TRACEPARENT for name, _ in headers):
            headers.append((TRACEPARENT, traceparent))  # unless the subscription sets one
        return OutgoingRequest(
            url=target,
            headers=headers,
            body=body,
            redact=tuple(redact),
            timeout_seconds=subscription.timeout_seconds,
            signed_at=signed_at,
            certificate=certificate,
            oauth2=oauth2,
        )
