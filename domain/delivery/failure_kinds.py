"""Failure kinds: the closed list of reasons why an attempt fails or a delivery ends without a 2xx.

`docs/failure-kinds.md` is rendered from this list and `domain/delivery/verdict.py` by `docs/render.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Stage = Literal["before the request", "on the way", "the receiver's answer", "ours"]
"""No request was sent and none will be; no answer arrived whole; a status other than 2xx; not the receiver's fault."""


class FailureKind(StrEnum):
    """Cause of a failed attempt or of a delivery's end; part of the API and stored under these names."""

    subscription_disabled = "subscription_disabled"
    subscription_deleted = "subscription_deleted"
    event_erased = "event_erased"
    breaker_open = "breaker_open"

    blocked = "blocked"
    dns = "dns"
    dns_refused = "dns_refused"
    oauth2_token = "oauth2_token"  # noqa: S105 - no secret
    connect = "connect"
    tls = "tls"
    timeout = "timeout"
    reset = "reset"
    invalid_response = "invalid_response"

    http_3xx = "http_3xx"
    http_4xx = "http_4xx"
    http_busy = "http_busy"
    http_gone = "http_gone"
    disabled_by_receiver = "disabled_by_receiver"
    aborted_by_receiver = "aborted_by_receiver"
    http_5xx = "http_5xx"

    proxy_refused = "proxy_refused"
    proxy_unavailable = "proxy_unavailable"
    interrupted = "interrupted"
    internal = "internal"


@dataclass(frozen=True, slots=True)
class FailureExplanation:
    """Stage, short words, and a sentence each of meaning and remedy, for administrators and owners of receivers."""

    stage: Stage
    words: str
    meaning: str
    remedy: str


_EXPLAINED: Mapping[Stage, Mapping[FailureKind, tuple[str, str, str]]] = {
    "before the request": {
        FailureKind.subscription_disabled: (
            "webhook disabled",
            "The webhook was disabled, by a person, by its receiver or after days without success, so nothing "
            "was sent.",
            "Have the receiver repaired, or ask its owner why; then enable the webhook and recover what ended since.",
        ),
        FailureKind.subscription_deleted: (
            "webhook deleted",
            "The webhook was deleted while the delivery was open.",
            "If that was a mistake, subscribe again; deliveries of a deleted webhook cannot be recovered.",
        ),
        FailureKind.event_erased: (
            "event erased",
            "The event's data was erased while the delivery was open, so there is no body left to send.",
            "Nothing: the data was erased on purpose and cannot be restored.",
        ),
        FailureKind.breaker_open: (
            "receiver kept failing",
            "The receiver failed so often that deliveries were held, until this delivery's retry schedule ended.",
            "Repair the receiver, then recover the deliveries of that time.",
        ),
    },
    "on the way": {
        FailureKind.blocked: (
            "URL not allowed",
            "This installation does not send to the URL, or to the address in it.",
            "Use a public https address; for a receiver in a private network ask the operator of this installation to "
            "allow that network.",
        ),
        FailureKind.dns: (
            "host not found",
            "The host's name could not be resolved to an address.",
            "Check the spelling of the host, and have its owner check that the name resolves outside their own network "
            "(A and AAAA records).",
        ),
        FailureKind.dns_refused: (
            "address not allowed",
            "The host's name resolved to addresses to which this installation does not send.",
            "Have the name's owner check its A and AAAA records; a private network has to be allowed by the operator.",
        ),
        FailureKind.oauth2_token: (
            "no access token",
            "The authorization server gave no access token, so nothing was sent; the attempt shows its answer.",
            "Check the webhook's token URL, client id, client secret and scope; have the authorization server's "
            "owner check that the client is registered for the grant `client_credentials`.",
        ),
        FailureKind.connect: (
            "no connection",
            "No connection could be made to the address and port, also by the egress proxy: refused, unreachable, or "
            "not made in 5 s.",
            "Have the receiver's owner check that the service runs, listens on that port and is not blocked by a "
            "firewall.",
        ),
        FailureKind.tls: (
            "TLS error",
            "The TLS handshake failed, the certificate is not valid for the host, or the receiver refused the "
            "client certificate.",
            "Have the receiver's owner renew or complete its certificate: from a public authority, for that name, "
            "with the whole chain, over TLS 1.2 or later; of a client certificate, check that the receiver accepts it.",
        ),
        FailureKind.timeout: (
            "timeout",
            "The complete response had not arrived within the webhook's `timeoutSeconds`, or the egress proxy answered "
            "504 for the receiver.",
            "Have the receiver store the event, respond with a 2xx at once, and do its work afterwards; if it cannot, "
            "allow it up to 30 s with `timeoutSeconds`.",
        ),
        FailureKind.reset: (
            "connection closed",
            "The connection was closed or reset before the complete response had arrived.",
            "Have the receiver's owner look for crashes, restarts and proxies that cut connections; a repeat has the "
            "same `messageId`.",
        ),
        FailureKind.invalid_response: (
            "invalid response",
            "The response is not valid HTTP/1.1: malformed, with too long a head, or not of the announced length.",
            "Have the receiver's owner check what responds at this address: it must be a web server with plain "
            "HTTP/1.1 responses and a correct `Content-Length`.",
        ),
    },
    "the receiver's answer": {
        FailureKind.http_3xx: (
            "redirect",
            "The receiver answered with a redirect; redirects are not followed.",
            "Put its target (shown as the location) into the webhook.",
        ),
        FailureKind.http_4xx: (
            "rejected",
            "The receiver rejects the request; it is retried, as the cause may be a mistake that is soon repaired.",
            "Check the URL and the authentication or header with credentials, and have the receiver's owner check why "
            "it rejects: its signature check, or an unknown event; a receiver that wants no more events answers 410.",
        ),
        FailureKind.http_busy: (
            "too busy",
            "The receiver asks for a later retry (408, 425 or 429).",
            "Lower the webhook's rate limit, or have the receiver accept more or send a `Retry-After`.",
        ),
        FailureKind.http_gone: (
            "gone",
            "The receiver answered 410 (no more events), so the webhook was disabled.",
            "If that was a mistake, enable the webhook again and recover the deliveries that ended.",
        ),
        FailureKind.disabled_by_receiver: (
            "webhook disabled by the receiver",
            "The receiver answered `webhook-delivery: disable` with a 4xx, so the webhook was disabled.",
            "Ask the receiver's owner why; then enable the webhook again and recover the deliveries that ended.",
        ),
        FailureKind.aborted_by_receiver: (
            "ended by the receiver",
            "The receiver answered `webhook-delivery: abort-message` with a 4xx: it does not want this delivery again.",
            "Ask the receiver's owner why it refuses this event; redeliver sends it once more.",
        ),
        FailureKind.http_5xx: (
            "server error",
            "The receiver failed to handle the request.",
            "Have the receiver's owner look for the request id in the receiver's log: the error is on their side.",
        ),
    },
    "ours": {
        FailureKind.proxy_refused: (
            "refused by the egress proxy",
            "The egress proxy refuses connections to the receiver, by its policy (403) or with another 3xx or 4xx.",
            "Ask the operator of this installation to allow the receiver in the egress proxy.",
        ),
        FailureKind.proxy_unavailable: (
            "egress proxy not available",
            "The egress proxy was not reachable, refused the credentials for it (401, 407), or gave no HTTP response.",
            "Nothing: the delivery continues once the operator of this installation has repaired the egress proxy or "
            "`EGRESS_PROXY_URL`.",
        ),
        FailureKind.interrupted: (
            "interrupted",
            "The worker died during the attempt, so its outcome is unknown: the request may have arrived.",
            "Nothing: the attempt is repeated, and a receiver that already has the delivery knows its `messageId`.",
        ),
        FailureKind.internal: (
            "internal error",
            "Our side failed before the request: database, encryption key or system resources.",
            "Nothing: the delivery continues by itself, and the operator of this installation finds the error in the "
            "worker's log.",
        ),
    },
}

EXPLANATIONS: Mapping[FailureKind, FailureExplanation] = {
    kind: FailureExplanation(stage, *texts) for stage, kinds in _EXPLAINED.items() for kind, texts in kinds.items()
}


def failure_explanation(failure: str | None) -> FailureExplanation | None:
    """Return the explanation of a stored failure; None without one, or for a kind that a newer version has stored."""
    return EXPLANATIONS[FailureKind(failure)] if failure and failure in FailureKind.__members__ else None


def failure_in_words(failure: str, status_code: int | None) -> str:
    """Return `503 server error, http_5xx`: status code, words and kind of a failed attempt."""
    known = failure_explanation(failure)
    return f"{status_code or ''} {known.words if known else 'failed'}, {failure}".strip()
