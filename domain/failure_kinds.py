"""The closed list of what can go wrong with an attempt or end a delivery without a 2xx.

    failure
    ├── before the request      no request was sent, none will be
    │     subscription_disabled  subscription_deleted  event_erased  breaker_open
    ├── on the way              the receiver's answer never arrived whole
    │     blocked  dns  connect  tls  timeout  reset  invalid_response
    ├── the receiver's answer   a status other than 2xx
    │     http_3xx  http_4xx  http_busy  http_gone  http_5xx
    └── ours                    never counted against the receiver
          interrupted  internal

`docs/failure-kinds.md` is rendered from this list and `domain/verdict.py` by `docs/render.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

Stage = Literal["before the request", "on the way", "the receiver's answer", "ours"]


class FailureKind(StrEnum):
    """Why an attempt failed or a delivery ended; stored and shown under exactly these words."""

    subscription_disabled = "subscription_disabled"
    subscription_deleted = "subscription_deleted"
    event_erased = "event_erased"
    breaker_open = "breaker_open"

    blocked = "blocked"
    dns = "dns"
    connect = "connect"
    tls = "tls"
    timeout = "timeout"
    reset = "reset"
    invalid_response = "invalid_response"

    http_3xx = "http_3xx"
    http_4xx = "http_4xx"
    http_busy = "http_busy"
    http_gone = "http_gone"
    http_5xx = "http_5xx"

    interrupted = "interrupted"
    internal = "internal"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a failure kind means, in one sentence each: what happened, and what the receiver's owner can do."""

    stage: Stage
    meaning: str
    remedy: str


_NOTHING_TO_DO = "Nothing: the fault is on the sending side; the delivery goes on by itself."

EXPLANATIONS: Mapping[FailureKind, Explanation] = MappingProxyType(
    {
        FailureKind.subscription_disabled: Explanation(
            "before the request",
            "The subscription was disabled, by a person, by a 410 or after days without success, so nothing was sent.",
            "Repair the receiver, have the subscription enabled, then `recover` what ended meanwhile.",
        ),
        FailureKind.subscription_deleted: Explanation(
            "before the request",
            "The subscription was deleted while the delivery was open.",
            "Subscribe again; deliveries of a deleted subscription cannot be recovered.",
        ),
        FailureKind.event_erased: Explanation(
            "before the request",
            "The event's data was erased while the delivery was open, so there is no body left to send.",
            "Nothing: erased data is gone on purpose.",
        ),
        FailureKind.breaker_open: Explanation(
            "before the request",
            "The receiver failed so often that deliveries waited, and this one's retry schedule ended meanwhile.",
            "Repair the receiver, then `recover` the deliveries of that time.",
        ),
        FailureKind.blocked: Explanation(
            "on the way",
            "The URL or the address its name stands for is one this installation does not send to.",
            "Use a public https URL; in a private network ask the operator to put it on the allow-list of networks.",
        ),
        FailureKind.dns: Explanation(
            "on the way",
            "The host's name could not be resolved to an address.",
            "Check the spelling of the host and its A/AAAA records from outside your network.",
        ),
        FailureKind.connect: Explanation(
            "on the way",
            "No connection was accepted at the address and port: refused or unreachable.",
            "Check that the service runs, listens on that port and is let through by the firewall.",
        ),
        FailureKind.tls: Explanation(
            "on the way",
            "The TLS handshake failed or the certificate is not valid for the host.",
            "Serve a valid certificate of a public authority for that name, with its chain, over TLS 1.2 or later.",
        ),
        FailureKind.timeout: Explanation(
            "on the way",
            "The whole answer had not arrived when the time for an attempt was over.",
            "Store the event and answer at once with a 2xx; do the work afterwards, and end the response.",
        ),
        FailureKind.reset: Explanation(
            "on the way",
            "The connection was closed or reset before the whole answer had arrived.",
            "Look for crashes, restarts and proxies that cut connections; drop repeats by `messageId`.",
        ),
        FailureKind.invalid_response: Explanation(
            "on the way",
            "What came back is no valid HTTP/1.1 response: malformed, too long a head, or not of the length announced.",
            "Answer with a plain HTTP/1.1 response whose `Content-Length` is right.",
        ),
        FailureKind.http_3xx: Explanation(
            "the receiver's answer",
            "The receiver answered with a redirect; redirects are not followed.",
            "Put the final URL (shown as the location) into the subscription.",
        ),
        FailureKind.http_4xx: Explanation(
            "the receiver's answer",
            "The receiver rejects the request; it is tried again, for receivers are at times deployed wrongly.",
            "Look at path, credentials and signature check; answer 410 to end the subscription.",
        ),
        FailureKind.http_busy: Explanation(
            "the receiver's answer",
            "The receiver asks to come again later (408, 425 or 429).",
            "Say when by `Retry-After`, or lower the subscription's rate limit.",
        ),
        FailureKind.http_gone: Explanation(
            "the receiver's answer",
            "The receiver answered 410: it wants no more, so the subscription was disabled.",
            "If this was a mistake, have the subscription enabled and `recover` what ended.",
        ),
        FailureKind.http_5xx: Explanation(
            "the receiver's answer",
            "The receiver failed to handle the request.",
            "Look into the receiver's log at that time for the request id.",
        ),
        FailureKind.interrupted: Explanation(
            "ours",
            "The worker died during the attempt, so its outcome is unknown: the request may have arrived.",
            "Nothing but dropping repeats by `messageId`: the attempt is made again.",
        ),
        FailureKind.internal: Explanation(
            "ours",
            "The sending side failed before the receiver was asked: database, encryption key or system resources.",
            _NOTHING_TO_DO,
        ),
    }
)
