"""HTTP client of the attempts: sends one signed request and returns the response or the failure as data."""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import httpx

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.verdict import CONTROL_HEADER, Answer, DeliveryControl, parse_control, parse_retry_after
from domain.urls.rules import NormalisedUrl, UrlRefused, UrlRules, normalise_url
from domain.wire.authentication import AUTHORIZATION
from domain.wire.client_certificate import ClientCertificate, validity_of
from domain.wire.excerpts import text_excerpt
from domain.wire.oauth2 import AccessToken, NoAccessTokenError, OAuth2Client, read_token, token_request
from sending.http.access_tokens import AccessTokens
from sending.http.address_guard import AddressBlockedError, NameRefusedError
from sending.http.connection import ClosedBeforeAnswerError, MalformedResponseError, Response
from sending.http.egress_proxy import EgressProxy, ProxyRefusedError, ProxyUnavailableError, ReceiverLateError
from sending.http.pool import Connections, HandshakeCutError, NotConnectedError
from sending.http.transport import GuardedTransport, TransportFactory, cause_of, exchange_over

# Maximum length of a stored `Location`: a useful URL fits, and a receiver may send 8 KB.
_LOCATION_BYTES = 500
_DETAIL_BYTES = 300

UNAUTHORIZED = 401

TOKEN_SECONDS = 5.0
"""Maximum time for an access token. The rest of the attempt's time is for its request."""

NEW_TOKEN = "sent again with a new access token after a 401"  # noqa: S105 - a note
NO_NEW_TOKEN = "no new access token after the 401"  # noqa: S105 - a note

# The machine has run out of a resource, which is no fault of the receiver.
_OUR_OWN_ERRNO = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_RESET_ERRNO = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOTCONN})

# The failure kind of every exception, which a test proves. Looked up along the class hierarchy: the most specific wins.
KINDS: dict[type[BaseException], FailureKind] = {
    AddressBlockedError: FailureKind.blocked,
    UrlRefused: FailureKind.blocked,
    NameRefusedError: FailureKind.dns_refused,
    ProxyUnavailableError: FailureKind.proxy_unavailable,
    ProxyRefusedError: FailureKind.proxy_refused,
    NoAccessTokenError: FailureKind.oauth2_token,
    NotConnectedError: FailureKind.connect,
    TimeoutError: FailureKind.timeout,
    ReceiverLateError: FailureKind.timeout,
    socket.gaierror: FailureKind.dns,
    ssl.SSLError: FailureKind.tls,
    HandshakeCutError: FailureKind.tls,
    ClosedBeforeAnswerError: FailureKind.reset,
    MalformedResponseError: FailureKind.invalid_response,
    OSError: FailureKind.connect,
    # Raised by somebody's own transport
    httpx.TransportError: FailureKind.connect,
    httpx.ReadTimeout: FailureKind.timeout,
    httpx.WriteTimeout: FailureKind.timeout,
    httpx.ReadError: FailureKind.reset,
    httpx.WriteError: FailureKind.reset,
    httpx.RemoteProtocolError: FailureKind.invalid_response,
    httpx.ProxyError: FailureKind.proxy_unavailable,
    httpx.PoolTimeout: FailureKind.internal,
    httpx.LocalProtocolError: FailureKind.internal,
    httpx.UnsupportedProtocol: FailureKind.internal,
}
_WITH_OWN_TEXT = tuple(error for error in KINDS if error.__module__.startswith(("sending.", "domain.")))


@lru_cache(maxsize=1024)
def _valid_until(certificate: ClientCertificate) -> datetime:
    return validity_of(certificate)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """Settings of the HTTP client.

    `timeout_seconds` limits a request without a timeout of its own, from name resolution to the last byte. At most
    `read_limit_bytes` of a response are read, and `excerpt_bytes` are stored. `ca_bundle` is a PEM file trusted beside
    the public authorities, `client_cert` a PEM file with chain and key. `proxy` is None if receivers are reached
    directly. `transport` returns a transport of httpx that carries every request; None: a direct call of ours. The
    number of connections has no limit here: the callers limit it per subscription, so that no receiver can use up a
    shared pool.
    """

    rules: UrlRules
    user_agent: str = "OpenLoyalty"
    timeout_seconds: float = 15.0
    excerpt_bytes: int = 1024
    read_limit_bytes: int = 65536
    ca_bundle: str | None = None
    client_cert: str | None = None
    proxy: EgressProxy | None = None
    transport: TransportFactory | None = None


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class OutgoingRequest:
    """POST request to send. `headers` are the subscription's own and the signature's; `Host`, `Content-Type`,
    `Content-Length`, `Accept-Encoding` and, unless among them, `User-Agent` and `Accept` are added. Texts in `redact`
    (stored header values, keys) are masked in the stored part of the response. `certificate` takes the place of the
    installation's client certificate; `oauth2` is where the sender gets an access token, which it puts into `token`."""

    url: NormalisedUrl
    headers: list[tuple[str, str]]
    body: bytes
    redact: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    """Timeout of the whole request; None: that of the settings."""
    signed_at: int | None = None
    """Timestamp of the signatures in Unix seconds; None: the request is not signed."""
    certificate: ClientCertificate | None = None
    oauth2: OAuth2Client | None = None
    token: str | None = None


@dataclass(slots=True)  # not frozen: making one would cost thrice as much, for each delivery
class SendResult:
    """Result of one attempt. `failure` is set when the response did not arrive whole or no request was sent, also
    beside a `status_code` (200 and then a reset). A status other than 2xx is no failure here: `domain.delivery.verdict`
    judges it. `detail` describes the failure, `note` the oddities beside the verdict. `duration_ms` ends with the last
    byte or the failure. `means` names what carried a request that was answered, if it is more than a direct connection
    with the stored headers. `packets` is their number in the response."""

    status_code: int | None
    failure: FailureKind | None
    retry_after_seconds: float | None
    location: str | None
    excerpt: str
    detail: str
    duration_ms: int
    note: str = ""
    control: DeliveryControl | None = None
    signed_at: int | None = None
    means: str = ""
    packets: int = 0

    @property
    def answer(self) -> Answer:
        """Return the input of `domain.delivery.verdict.verdict`."""
        return Answer(self.status_code, self.failure, self.retry_after_seconds, self.control)

    @property
    def stored_detail(self) -> str | None:
        """Return the description of the failure or the destination of a redirect, the receiver's word, the note, and
        the means."""
        text = self.detail or (f"Location: {self.location}" if self.location else "")
        word = f"{CONTROL_HEADER}: {self.control}" if self.control else ""
        return "; ".join(filter(None, (text, word, self.note, self.means))) or None


def not_sent(failure: FailureKind, detail: str) -> SendResult:
    """Return the result of an attempt that ended before its request was sent."""
    return SendResult(None, failure, None, None, "", detail, 0)


class Deadlines:
    """Timeouts of `seconds` each for many concurrent requests, on one timer: uvloop takes some 15 µs to set and clear a
    timer. Build it inside the running event loop. `with deadlines:` cancels the block at the end of the timeout and
    raises TimeoutError, with the rules of `asyncio.timeout` about cancellation by others. One limit a task."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._active: dict[asyncio.Task[Any], tuple[float, int]] = {}
        """End (loop clock) and earlier cancellations of each task in a block. All limits have the same length, so the
        first one ends first."""
        self._expired: dict[asyncio.Task[Any], int] = {}
        """Earlier cancellations of the tasks whose limit has ended and whose block has not."""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        ends_at = self._loop.time() + self._seconds
        self._active[task] = ends_at, task.cancelling()
        if self._timer is None:
            self._timer = self._loop.call_at(ends_at, self._expire_due)

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        if self._active.pop(task, None) is not None:
            return
        earlier = self._expired.pop(task)
        if task.uncancel() <= earlier and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _expire_due(self) -> None:
        """Cancel the tasks whose limit has ended, and set the timer for the next one."""
        self._timer = None
        now = self._loop.time()
        while self._active:
            task, (ends_at, cancellations) = next(iter(self._active.items()))
            if ends_at > now:
                self._timer = self._loop.call_at(ends_at, self._expire_due)
                return
            del self._active[task]
            self._expired[task] = cancellations
            task.cancel()


class Sender(AbstractAsyncContextManager["Sender"]):
    """HTTP client over shared connections. Build it inside the running event loop, close it with `aclose`."""

    def __init__(self, settings: SenderSettings) -> None:
        self._settings = settings
        self._connections = Connections(
            settings.rules,
            ca_bundle=settings.ca_bundle,
            client_cert=settings.client_cert,
            proxy=settings.proxy,
        )
        guarded = GuardedTransport(self._connections, settings.rules, settings.read_limit_bytes)
        self._transport = None if settings.transport is None else settings.transport(guarded)
        self._deadlines: dict[float, Deadlines] = {}
        """Deadlines by timeout, which is one of 1 to 30 s or that of the settings."""
        self._tokens = AccessTokens(self._fetch_token)
        self._token_responses: dict[OAuth2Client, Response] = {}
        """Responses of the token requests under way, one a client."""
        self._opening: Callable[[str], tuple[NormalisedUrl, str]] = lru_cache(maxsize=4096)(self._opening_of)
        self._target: Callable[[str], tuple[httpx.URL, list[tuple[bytes, bytes]]]]
        self._target = lru_cache(maxsize=4096)(self._target_of)

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
        await self._connections.aclose()

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send a request once. Raises only CancelledError: the result reports every other failure."""
        started = time.perf_counter()
        if request.oauth2 is not None:
            request = replace(request)  # It gets tokens.
        response = Response(self._settings.read_limit_bytes)
        failure: FailureKind | None = None
        detail = ""
        seconds = request.timeout_seconds or self._settings.timeout_seconds
        if seconds not in self._deadlines:
            self._deadlines[seconds] = Deadlines(seconds)
        try:
            with self._deadlines[seconds]:
                if request.oauth2 is None:
                    await self._exchange(request, response)
                else:
                    await self._exchange_with_token(request.oauth2, request, response)
        except Exception as error:  # Every outcome of an attempt is data.
            failure, detail = self._failure(error, request, response, seconds)
        duration_ms = round((time.perf_counter() - started) * 1000)
        status = response.status_code
        retry_after: float | None = None
        location: str | None = None
        if status is not None and status >= 300:
            if response.retry_after is not None:
                retry_after = parse_retry_after(response.retry_after.decode("latin-1"), datetime.now(UTC))
            if response.location is not None and status < 400:
                location = text_excerpt(response.location, _LOCATION_BYTES, request.redact)
        control: DeliveryControl | None = None
        if response.control is not None and status is not None and failure is None:
            control, ignored = parse_control(response.control.decode("latin-1"), status)
            if ignored:
                response.notes[ignored] = None
        excerpt = text_excerpt(bytes(response.body), self._settings.excerpt_bytes, request.redact)
        note = f"Odd: {', '.join(response.notes)}" if response.notes else ""
        means = "" if status is None else _means(request, response)
        packets = response.packets
        return SendResult(
            status, failure, retry_after, location, excerpt, detail, duration_ms, note, control, None, means, packets
        )

    async def _exchange_with_token(self, client: OAuth2Client, request: OutgoingRequest, response: Response) -> None:
        """Exchange with an access token, and again with another after a 401. While the request waits for a token it has
        none."""
        _put_token(request, await self._tokens.get(client))
        await self._exchange(request, response)
        if not _asks_for_token(response):
            return
        refused, request.token = request.token, None
        token = await self._tokens.another(client, refused)
        if token is not None:
            _put_token(request, token)
            noted = {**response.notes, NEW_TOKEN: None}
            response.clear()
            try:
                await self._exchange(request, response)
            finally:
                response.notes = noted | response.notes  # Not before the exchange, which closes odd connections.

    def _failure(
        self, error: Exception, request: OutgoingRequest, response: Response, seconds: float
    ) -> tuple[FailureKind | None, str]:
        """Return the failure of an attempt that ended with `error`, and its detail. There is none if only another token
        failed: the receiver has answered, so its 401 stands."""
        error = cause_of(error)
        late = isinstance(error, TimeoutError)
        client = request.oauth2 if request.token is None else None
        if late and client is not None:
            error = self._late_token(client, f"before the attempt's end ({seconds:g} s)")
        elif late and response.at_proxy:
            error = ProxyUnavailableError(f"no connection to the egress proxy within {seconds:g} s")
        elif late:
            return FailureKind.timeout, f"no complete answer within {seconds:g} s"
        detail = text_excerpt(detail_of(error).encode("utf-8", "replace"), _DETAIL_BYTES, request.redact)
        if client is not None and response.status_code is not None:
            response.notes[f"{NO_NEW_TOKEN} ({detail})"] = None
            return None, ""
        return failure_of(error), detail

    def _late_token(self, client: OAuth2Client, when: str) -> Exception:
        """Return the error for a token that has not come in time: the proxy's while the request for it waits there."""
        waiting = self._token_responses.get(client)
        if waiting is not None and waiting.at_proxy:
            return ProxyUnavailableError(f"no connection to the egress proxy {when}")
        return NoAccessTokenError(f"no answer of the authorization server {when}")

    async def _fetch_token(self, client: OAuth2Client) -> AccessToken:
        response = self._token_responses[client] = Response(self._settings.read_limit_bytes)
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                url, _ = self._opening(client.token_url)
                await self._connections.exchange(url, token_request(client, url, self._settings.user_agent), response)
        except TimeoutError:
            raise self._late_token(client, f"within {TOKEN_SECONDS:g} s") from None
        except Exception as error:
            if failure_of(error) in (FailureKind.internal, FailureKind.proxy_unavailable):
                raise
            kind = ProxyRefusedError if isinstance(error, ProxyRefusedError) else NoAccessTokenError
            raise kind(f"no answer of the authorization server: {detail_of(error)}") from error
        finally:
            del self._token_responses[client]
        return read_token(response.status_code, bytes(response.body))

    def _opening_of(self, url: str) -> tuple[NormalisedUrl, str]:
        """Return a stored URL, checked by the current rules, and the first lines of every request to it."""
        normal = normalise_url(url, self._settings.rules)
        return normal, f"POST {normal.target} HTTP/1.1\r\nHost: {normal.host}\r\nContent-Type: application/json\r\n"

    def _target_of(self, url: str) -> tuple[httpx.URL, list[tuple[bytes, bytes]]]:
        """Return the URL for httpx, and the headers of every request to it."""
        host = self._opening(url)[0].host.encode()
        fields = [(b"Host", host), (b"Content-Type", b"application/json"), (b"Accept-Encoding", b"identity")]
        return httpx.URL(url), fields

    def _exchange(self, request: OutgoingRequest, response: Response) -> Awaitable[None]:
        """Return the exchange of the request, to be awaited. Raises at once if its URL or a header is invalid."""
        url, opening = self._opening(request.url.url)
        if url != request.url:
            raise UrlRefused("not_normal", "the URL is not in the form in which it was stored and signed")
        headers = request.headers
        if request.token is not None:
            headers = [*headers, (AUTHORIZATION, f"Bearer {request.token}")]
        if self._transport is not None:
            return self._exchange_over(self._transport, request, headers, response)
        lines, count = "".join([f"{name}: {value}\r\n" for name, value in headers]), len(headers)
        names = f"\n{lines}".lower()
        if "\nuser-agent: " not in names:
            lines, count = f"{lines}User-Agent: {self._settings.user_agent}\r\n", count + 1
        if "\naccept: " not in names:
            lines, count = f"{lines}Accept: */*\r\n", count + 1
        if lines.count("\n") != count or lines.count("\r") != count or "\0" in lines:
            raise ValueError("a header with a line break or NUL in it")
        head = f"{opening}Content-Length: {len(request.body)}\r\nAccept-Encoding: identity\r\n{lines}\r\n"
        return self._connections.exchange(url, head.encode() + request.body, response, request.certificate)

    def _exchange_over(
        self,
        transport: httpx.AsyncBaseTransport,
        request: OutgoingRequest,
        headers: list[tuple[str, str]],
        response: Response,
    ) -> Awaitable[None]:
        """Exchange as an `httpx.Request`."""
        target, common = self._target(request.url.url)
        fields = common + [(name.encode(), value.encode()) for name, value in headers]
        names = {name.lower() for name, _ in fields}
        if b"user-agent" not in names:
            fields.append((b"User-Agent", self._settings.user_agent.encode()))
        if b"accept" not in names:
            fields.append((b"Accept", b"*/*"))
        fields.append((b"Content-Length", b"%d" % len(request.body)))
        return exchange_over(transport, target, fields, request.body, response, request.certificate)


def _means(request: OutgoingRequest, response: Response) -> str:
    """Return what carried an answered request, in words."""
    means = ["through the egress proxy"] if response.through_proxy else []
    if request.oauth2 is not None:
        means.append("with an OAuth 2 access token")
    if request.certificate is not None:
        means.append(f"with the client certificate valid until {_valid_until(request.certificate):%Y-%m-%d}")
    return f"sent {', '.join(means)}" if means else ""


def _asks_for_token(response: Response) -> bool:
    """Return True for a 401 that does not tell what to do with the delivery."""
    if response.status_code != UNAUTHORIZED:
        return False
    return response.control is None or parse_control(response.control.decode("latin-1"), UNAUTHORIZED)[0] is None


def _put_token(request: OutgoingRequest, token: str) -> None:
    request.token = token
    request.redact = (*request.redact, token)


def failure_of(error: BaseException) -> FailureKind:
    """Return the failure kind of an exception. An unknown exception is a fault of the product: `internal`."""
    number = error.errno if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    if number in _OUR_OWN_ERRNO:
        return FailureKind.internal
    if number in _RESET_ERRNO:
        return FailureKind.reset
    for ancestor in type(error).__mro__:
        if ancestor in KINDS:
            return KINDS[ancestor]
    return FailureKind.internal


def detail_of(error: BaseException) -> str:
    """Return a description of the failure, without the URL's query, any header or any byte of the response."""
    if isinstance(error, _WITH_OWN_TEXT):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # Python sets `reason` only where OpenSSL names one.
        reason: str | None = getattr(error, "reason", None)
        return (reason or "handshake failed").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
