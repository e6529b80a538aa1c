"""The sender: one signed request to one URL, and whatever comes back as data. It decides nothing and stores nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Self

import httpx

from activities.deadlines import Deadlines
from activities.failures import detail_of, failure_of
from activities.transport import ConnectionTransport
from domain.excerpts import text_excerpt
from domain.failure_kinds import FailureKind
from domain.url_rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from domain.verdict import Answer, parse_retry_after

# Long enough for any URL worth following by hand; a receiver can send 8 KB of it.
_LOCATION_BYTES = 500
_DETAIL_BYTES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """How this installation sends.

    `timeout_seconds` is for the whole attempt, name resolution to the response's last byte. Of a response
    `read_limit_bytes` are read at most and `excerpt_bytes` kept. `ca_bundle` is a PEM file trusted beside the public
    authorities, `client_cert` a PEM file with chain and key. `max_connections` 0 means no limit of our own:
    connections are limited per subscription, so that no receiver can use up a common supply.
    """

    rules: UrlRules
    user_agent: str = "OpenLoyalty"
    timeout_seconds: float = 15.0
    excerpt_bytes: int = 1024
    read_limit_bytes: int = 65536
    ca_bundle: str | None = None
    client_cert: str | None = None
    max_connections: int = 0


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A POST to be sent.

    `headers` are the subscription's own and the signature's; `Host`, `Content-Type`, `Content-Length`, `User-Agent`
    (unless among them) and `Accept-Encoding` are added. Texts in `redact` (stored header values, keys) are blotted out
    of whatever is kept of the response.
    """

    url: NormalisedUrl
    headers: list[tuple[str, str]]
    body: bytes
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SendResult:
    """What one attempt brought back.

    `status_code` is the status read, `failure` is set when the answer did not arrive whole or no request went out
    (also beside a status: 200 and then a reset). A status other than 2xx is no failure here: `domain.verdict` judges.
    `detail` says in words what failed. `duration_ms` runs to the last byte or the failure.
    """

    status_code: int | None
    failure: FailureKind | None
    retry_after_seconds: float | None
    location: str | None
    excerpt: str
    detail: str
    started_at: datetime
    duration_ms: int

    @property
    def answer(self) -> Answer:
        """What `domain.verdict.verdict` takes."""
        return Answer(self.status_code, self.failure, self.retry_after_seconds)


@dataclass(slots=True)
class _Reception:
    """What has arrived so far, kept also when the rest does not."""

    response: httpx.Response | None = None
    body: bytes = b""


class Sender:
    """Sends requests over shared connections. Build it inside the running event loop, close it with `aclose`."""

    def __init__(self, settings: SenderSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport or ConnectionTransport(
            settings.rules,
            ca_bundle=settings.ca_bundle,
            client_cert=settings.client_cert,
            max_connections=settings.max_connections,
        )
        self._deadlines = Deadlines(settings.timeout_seconds)
        self._checked_url: Callable[[str], tuple[NormalisedUrl, httpx.URL]] = lru_cache(maxsize=4096)(self._check_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send `request` once. Raises nothing but CancelledError: whatever network and receiver do is in the result."""
        started_at = datetime.now(UTC)
        started = time.perf_counter()
        reception = _Reception()
        failure: FailureKind | None = None
        detail = ""
        try:
            with self._deadlines.limit():
                await self._exchange(request, reception)
        except Exception as error:  # the outcome of an attempt is data, whatever it is
            failure = failure_of(error)
            detail = self._detail(failure, error, request)
        finally:
            duration_ms = round((time.perf_counter() - started) * 1000)
        return self._result(request, reception, failure, detail, started_at, duration_ms)

    def _check_url(self, url: str) -> tuple[NormalisedUrl, httpx.URL]:
        # Stored URLs are judged again by today's rules; the cache makes that free.
        normal = normalise_url(url, self._settings.rules)
        return normal, httpx.URL(normal.url)

    async def _exchange(self, request: OutgoingRequest, reception: _Reception) -> None:
        url, httpx_url = self._checked_url(request.url.url)
        if url != request.url:
            raise UrlRefused("not_normal", "the URL is not in the form in which it was stored and signed")
        headers = [
            ("Host", url.host),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(request.body))),
            ("Accept-Encoding", "identity"),
            *request.headers,
        ]
        if not any(name.lower() == "user-agent" for name, _ in request.headers):
            headers.append(("User-Agent", self._settings.user_agent))
        response = await self._transport.handle_async_request(
            httpx.Request(
                "POST",
                httpx_url,
                headers=[(name.encode("ascii"), value.encode("utf-8")) for name, value in headers],
                # `content=` would copy all headers twice to add two that stand there already.
                stream=httpx.ByteStream(request.body),
                extensions={"target": url.target.encode("ascii")},
            )
        )
        reception.response = response
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]
                reception.body = (reception.body + chunk)[: self._settings.read_limit_bytes]
                if len(reception.body) >= self._settings.read_limit_bytes:
                    break
        finally:
            await response.stream.aclose()  # type: ignore[union-attr]

    def _detail(self, failure: FailureKind, error: Exception, request: OutgoingRequest) -> str:
        if failure is FailureKind.timeout:
            return f"no complete answer within {self._settings.timeout_seconds:g} s"
        return text_excerpt(detail_of(error).encode("utf-8", "replace"), _DETAIL_BYTES, request.redact)

    def _result(
        self,
        request: OutgoingRequest,
        reception: _Reception,
        failure: FailureKind | None,
        detail: str,
        started_at: datetime,
        duration_ms: int,
    ) -> SendResult:
        response = reception.response
        if response is None:
            return SendResult(None, failure, None, None, "", detail, started_at, duration_ms)
        status = response.status_code
        retry_after: float | None = None
        location: str | None = None
        if status >= 300:
            stated = response.headers.get("Retry-After")
            retry_after = parse_retry_after(stated, datetime.now(UTC)) if stated is not None else None
            place = response.headers.get("Location") if status < 400 else None
            location = text_excerpt(place.encode(), _LOCATION_BYTES, request.redact) if place is not None else None
        excerpt = text_excerpt(reception.body, self._settings.excerpt_bytes, request.redact)
        return SendResult(status, failure, retry_after, location, excerpt, detail, started_at, duration_ms)
