"""HTTP client of the attempts: sends one signed request and returns the response or the failure as data."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Self

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.verdict import Answer, parse_retry_after
from domain.urls.rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from domain.wire.excerpts import text_excerpt
from sending.http.connection import Response
from sending.http.deadlines import Deadlines
from sending.http.failures import detail_of, failure_of
from sending.http.pool import Connections

# Maximum length of a stored `Location`: a useful URL fits, and a receiver may send 8 KB.
_LOCATION_BYTES = 500
_DETAIL_BYTES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """Settings of the HTTP client.

    `timeout_seconds` limits the whole attempt, from name resolution to the last byte of the response. At most
    `read_limit_bytes` of a response are read, and `excerpt_bytes` are stored. `ca_bundle` is a PEM file trusted beside
    the public authorities, `client_cert` a PEM file with chain and key. The number of connections has no limit here:
    the callers limit it per subscription, so that no receiver can use up a shared pool.
    """

    rules: UrlRules
    user_agent: str = "OpenLoyalty"
    timeout_seconds: float = 15.0
    excerpt_bytes: int = 1024
    read_limit_bytes: int = 65536
    ca_bundle: str | None = None
    client_cert: str | None = None


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class OutgoingRequest:
    """POST request to send.

    `headers` are the subscription's own and the signature's; `Host`, `Content-Type`, `Content-Length`, `User-Agent`
    (unless among them) and `Accept-Encoding` are added. Texts in `redact` (stored header values, keys) are masked in
    the stored part of the response.
    """

    url: NormalisedUrl
    headers: list[tuple[str, str]]
    body: bytes
    redact: tuple[str, ...] = ()


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class SendResult:
    """Result of one attempt.

    `failure` is set when the response did not arrive whole or no request was sent, also beside a `status_code` (200
    and then a reset). A status other than 2xx is no failure here: `domain.delivery.verdict` judges it. `detail`
    describes the failure. `duration_ms` ends with the last byte or the failure.
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
        """Input of `domain.delivery.verdict.verdict`."""
        return Answer(self.status_code, self.failure, self.retry_after_seconds)


def not_sent(failure: FailureKind, detail: str) -> SendResult:
    """Return the result of an attempt that ended before its request was sent."""
    return SendResult(None, failure, None, None, "", detail, datetime.now(UTC), 0)


class Sender:
    """HTTP client over shared connections. Build it inside the running event loop, close it with `aclose`."""

    def __init__(self, settings: SenderSettings) -> None:
        self._settings = settings
        self._connections = Connections(settings.rules, ca_bundle=settings.ca_bundle, client_cert=settings.client_cert)
        self._deadlines = Deadlines(settings.timeout_seconds)
        self._opening: Callable[[str], tuple[NormalisedUrl, str]] = lru_cache(maxsize=4096)(self._opening_of)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send a request once. Raises only CancelledError: the result reports every other failure."""
        started_at = datetime.now(UTC)
        started = time.perf_counter()
        response = Response(self._settings.read_limit_bytes)
        failure: FailureKind | None = None
        detail = ""
        try:
            with self._deadlines.limit():
                await self._exchange(request, response)
        except Exception as error:  # Every outcome of an attempt is data.
            failure = failure_of(error)
            detail = self._detail(failure, error, request)
        finally:
            duration_ms = round((time.perf_counter() - started) * 1000)
        return self._result(request, response, failure, detail, started_at, duration_ms)

    def _opening_of(self, url: str) -> tuple[NormalisedUrl, str]:
        """Return a stored URL, checked by the current rules, and the first lines of every request to it."""
        normal = normalise_url(url, self._settings.rules)
        return normal, f"POST {normal.target} HTTP/1.1\r\nHost: {normal.host}\r\nContent-Type: application/json\r\n"

    async def _exchange(self, request: OutgoingRequest, response: Response) -> None:
        url, opening = self._opening(request.url.url)
        if url != request.url:
            raise UrlRefused("not_normal", "the URL is not in the form in which it was stored and signed")
        lines, count = "".join([f"{name}: {value}\r\n" for name, value in request.headers]), len(request.headers)
        if "\nuser-agent: " not in f"\n{lines}".lower():
            lines, count = f"{lines}User-Agent: {self._settings.user_agent}\r\n", count + 1
        if lines.count("\n") != count or lines.count("\r") != count or "\0" in lines:
            raise ValueError("a header with a line break or NUL in it")
        head = f"{opening}Content-Length: {len(request.body)}\r\nAccept-Encoding: identity\r\n{lines}\r\n"
        await self._connections.exchange(url, head.encode() + request.body, response)

    def _detail(self, failure: FailureKind, error: Exception, request: OutgoingRequest) -> str:
        if failure is FailureKind.timeout:
            return f"no complete answer within {self._settings.timeout_seconds:g} s"
        return text_excerpt(detail_of(error).encode("utf-8", "replace"), _DETAIL_BYTES, request.redact)

    def _result(
        self,
        request: OutgoingRequest,
        response: Response,
        failure: FailureKind | None,
        detail: str,
        started_at: datetime,
        duration_ms: int,
    ) -> SendResult:
        status = response.status_code
        retry_after: float | None = None
        location: str | None = None
        if status is not None and status >= 300:
            stated = response.retry_after
            retry_after = None if stated is None else parse_retry_after(stated.decode("latin-1"), datetime.now(UTC))
            target = response.location if status < 400 else None
            location = None if target is None else text_excerpt(target, _LOCATION_BYTES, request.redact)
        excerpt = text_excerpt(bytes(response.body), self._settings.excerpt_bytes, request.redact)
        return SendResult(status, failure, retry_after, location, excerpt, detail, started_at, duration_ms)
