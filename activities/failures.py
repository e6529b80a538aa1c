"""Every exception an attempt may meet, and the failure kind it stands for. The mapping is total by test."""

import asyncio
import errno
import socket
import ssl

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError

from activities.address_guard import AddressBlockedError
from domain.failure_kinds import FailureKind
from domain.url_rules import UrlRefused

# The machine is out of something: nothing the receiver could have done.
_OUR_OWN_ERRNO = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_RESET_ERRNO = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOTCONN})

# Looked up along the exception's class hierarchy, so the most specific entry wins.
KINDS: dict[type[BaseException], FailureKind] = {
    AddressBlockedError: FailureKind.blocked,
    UrlRefused: FailureKind.blocked,
    TimeoutError: FailureKind.timeout,
    socket.gaierror: FailureKind.dns,
    ssl.SSLError: FailureKind.tls,
    HttpProcessingError: FailureKind.invalid_response,
    asyncio.IncompleteReadError: FailureKind.reset,
    OSError: FailureKind.connect,
    # aiohttp
    aiohttp.InvalidURL: FailureKind.blocked,
    aiohttp.NonHttpUrlClientError: FailureKind.blocked,
    aiohttp.RedirectClientError: FailureKind.invalid_response,
    aiohttp.ClientResponseError: FailureKind.invalid_response,
    aiohttp.ClientPayloadError: FailureKind.invalid_response,
    aiohttp.UploadAbortedError: FailureKind.reset,
    aiohttp.ClientConnectorDNSError: FailureKind.dns,
    aiohttp.ClientSSLError: FailureKind.tls,
    aiohttp.ClientConnectorCertificateError: FailureKind.tls,
    aiohttp.ServerFingerprintMismatch: FailureKind.tls,
    aiohttp.ClientConnectorError: FailureKind.connect,
    aiohttp.ServerTimeoutError: FailureKind.timeout,
    aiohttp.ClientConnectionError: FailureKind.reset,
    # httpx
    httpx.ConnectError: FailureKind.connect,
    httpx.TimeoutException: FailureKind.timeout,
    httpx.NetworkError: FailureKind.reset,
    httpx.ProxyError: FailureKind.connect,
    httpx.UnsupportedProtocol: FailureKind.blocked,
    httpx.InvalidURL: FailureKind.blocked,
    httpx.LocalProtocolError: FailureKind.internal,
    httpx.RemoteProtocolError: FailureKind.invalid_response,
    httpx.DecodingError: FailureKind.invalid_response,
    httpx.TooManyRedirects: FailureKind.invalid_response,
    httpx.HTTPStatusError: FailureKind.invalid_response,
}


def failure_of(error: BaseException) -> FailureKind:
    """Return the failure kind of what an attempt raised; what nobody foresaw is our own fault, `internal`."""
    cause = _root_of(error)
    number = cause.errno if isinstance(cause, OSError) else None
    if number in _OUR_OWN_ERRNO:
        return FailureKind.internal
    if isinstance(cause, AddressBlockedError | ssl.SSLError):
        return _listed_kind(cause)
    if isinstance(error, aiohttp.ClientConnectorError):
        return FailureKind.tls if _cut_in_handshake(error) else _listed_kind(error)
    if number in _RESET_ERRNO:
        return FailureKind.reset
    return _listed_kind(error)


def _cut_in_handshake(error: aiohttp.ClientConnectorError) -> bool:
    # connect() itself is refused or runs into a timeout; only a connection that stood can be reset.
    return isinstance(error.os_error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)


def _root_of(error: BaseException) -> BaseException:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    # A TLS alert after the handshake (TLS 1.3: "certificate required") is wrapped as any lost connection.
    return error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error


def _listed_kind(error: BaseException) -> FailureKind:
    for ancestor in type(error).__mro__:
        if ancestor in KINDS:
            return KINDS[ancestor]
    return FailureKind.internal


def detail_of(error: BaseException) -> str:
    """Return what went wrong in words. Never the URL's query, a header or a byte of the response."""
    cause = _root_of(error)
    return _handshake_detail(error) or _system_detail(cause) or _protocol_detail(error) or type(error).__name__


def _handshake_detail(error: BaseException) -> str | None:
    cut = isinstance(error, aiohttp.ClientConnectorError) and _cut_in_handshake(error)
    return "the connection was closed during the TLS handshake" if cut else None


def _system_detail(cause: BaseException) -> str | None:
    if isinstance(cause, AddressBlockedError | UrlRefused):
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        # Python sets `reason` only where OpenSSL names one.
        reason: str | None = getattr(cause, "reason", None)
        return (reason or "handshake failed").lower().replace("_", " ")
    return cause.strerror if isinstance(cause, OSError) else None


def _protocol_detail(error: BaseException) -> str | None:
    if isinstance(error, aiohttp.ClientResponseError):
        # The parser quotes the offending bytes behind a colon or in the next line.
        return error.message.strip().partition("\n")[0].partition(":")[0]
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the response's body is incomplete or malformed"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    return None
