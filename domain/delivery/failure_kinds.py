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

`docs/failure-kinds.md` is rendered from this list and `domain/delivery/verdict.py` by `docs/render.py`.
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
class FailureExplanation:
    """What a failure kind means, in one sentence each: what happened, and what an administrator or the
    receiver's owner can do, in words for both."""

    stage: Stage
    meaning: str
    remedy: str


EXPLANATIONS: Mapping[FailureKind, FailureExplanation] = MappingProxyType(
    {
        FailureKind.subscription_disabled: FailureExplanation(
            "before the request",
            "The subscription was disabled, by a person, by a 410 or after days without success, so nothing was sent.",
            "Repair the receiver, enable the subscription again, and recover what ended meanwhile.",
        ),
        FailureKind.subscription_deleted: FailureExplanation(
            "before the request",
            "The subscription was deleted while the delivery was open.",
            "If that was a mistake, subscribe again; deliveries of a deleted subscription cannot be recovered.",
        ),
        FailureKind.event_erased: FailureExplanation(
            "before the request",
            "The event's data was erased while the delivery was open, so there is no body left to send.",
            "Nothing: the data was erased on purpose, and is gone.",
        ),
        FailureKind.breaker_open: FailureExplanation(
            "before the request",
            "The receiver failed so often that deliveries waited, and this one's retry schedule ended meanwhile.",
            "Repair the receiver, then recover the deliveries of that time.",
        ),
        FailureKind.blocked: FailureExplanation(
            "on the way",
            "The URL or the address its name stands for is one this installation does not send to.",
            "Use a public https address; for a receiver in a private network ask whoever runs this installation to "
            "allow that network.",
        ),
        FailureKind.dns: FailureExplanation(
            "on the way",
            "The host's name could not be resolved to an address.",
            "Check how the host is spelt, and have its owner see whether the name is known outside their own network "
            "(A and AAAA records).",
        ),
        FailureKind.connect: FailureExplanation(
            "on the way",
            "No connection was accepted at the address and port: refused or unreachable.",
            "Have the receiver's owner check that the service runs, listens on that port and is let through by the "
            "firewall.",
        ),
        FailureKind.tls: FailureExplanation(
            "on the way",
            "The TLS handshake failed or the certificate is not valid for the host.",
            "Have the receiver's owner renew or complete its certificate: one of a public authority, for that name, "
            "with its whole chain, over TLS 1.2 or later.",
        ),
        FailureKind.timeout: FailureExplanation(
            "on the way",
            "The whole answer had not arrived when the time for an attempt was over.",
            "Have the receiver store the event, answer at once with a 2xx and end the response, and do its work "
            "afterwards.",
        ),
        FailureKind.reset: FailureExplanation(
            "on the way",
            "The connection was closed or reset before the whole answer had arrived.",
            "Have the receiver's owner look for crashes, restarts and proxies that cut connections; what arrives "
            "twice has the same `messageId`.",
        ),
        FailureKind.invalid_response: FailureExplanation(
            "on the way",
            "What came back is no valid HTTP/1.1 response: malformed, too long a head, or not of the length announced.",
            "Have the receiver's owner see what answers at this address: it must be a web server with plain HTTP/1.1 "
            "responses whose `Content-Length` is right.",
        ),
        FailureKind.http_3xx: FailureExplanation(
            "the receiver's answer",
            "The receiver answered with a redirect; redirects are not followed.",
            "Put the address it leads to (shown as the location) into the subscription.",
        ),
        FailureKind.http_4xx: FailureExplanation(
            "the receiver's answer",
            "The receiver rejects the request; it is tried again, for receivers are at times deployed wrongly.",
            "Check the URL and the headers with credentials, and have the receiver's owner see why it refuses: its "
            "signature check, or an event it does not know; one that wants no more answers 410.",
        ),
        FailureKind.http_busy: FailureExplanation(
            "the receiver's answer",
            "The receiver asks to come again later (408, 425 or 429).",
            "Lower the subscription's limit of requests a second, or have the receiver take more or say by "
            "`Retry-After` when to come again.",
        ),
        FailureKind.http_gone: FailureExplanation(
            "the receiver's answer",
            "The receiver answered 410: it wants no more, so the subscription was disabled.",
            "If that was a mistake, enable the subscription again and recover what ended.",
        ),
        FailureKind.http_5xx: FailureExplanation(
            "the receiver's answer",
            "The receiver failed to handle the request.",
            "Have the receiver's owner look for the request id in the receiver's log at that time: the error is on "
            "their side.",
        ),
        FailureKind.interrupted: FailureExplanation(
            "ours",
            "The worker died during the attempt, so its outcome is unknown: the request may have arrived.",
            "Nothing: the attempt is made again, and a receiver that has it already knows it by its `messageId`.",
        ),
        FailureKind.internal: FailureExplanation(
            "ours",
            "The sending side failed before the receiver was asked: database, encryption key or system resources.",
            "Nothing: the delivery goes on by itself, and whoever runs this installation finds the error in the "
            "worker's log.",
        ),
    }
)
