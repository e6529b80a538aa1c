"""What the sender's tests share: senders that may reach this machine, and requests to a receiver on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

from domain.urls.rules import UrlRules, normalise_url
from sending.http.client import OutgoingRequest, Sender, SenderSettings, SendResult

LOCAL = UrlRules(allow_http=True, allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
STRICT = UrlRules(allow_http=True)

# Long enough for a busy machine: only tests that want the timeout set a shorter one.
TIMEOUT_SECONDS = 30.0


@asynccontextmanager
async def local_sender(**settings: Any) -> AsyncIterator[Sender]:
    """A sender that is allowed to reach 127.0.0.0/8 and ::1."""
    async with Sender(SenderSettings(**{"rules": LOCAL, "timeout_seconds": TIMEOUT_SECONDS, **settings})) as sender:
        yield sender


def request_to(
    url: str,
    body: bytes = b"{}",
    headers: tuple[tuple[str, str], ...] = (),
    redact: tuple[str, ...] = (),
    **more: Any,
) -> OutgoingRequest:
    """A request to a URL on this machine."""
    return OutgoingRequest(normalise_url(url, LOCAL), list(headers), body, redact, **more)


async def send(url: str, *, redact: tuple[str, ...] = (), **settings: Any) -> SendResult:
    """One request by a sender of its own."""
    async with local_sender(**settings) as sender:
        return await sender.send(request_to(url, redact=redact))
