"""Mapping from the exceptions of an attempt to failure kinds. A test proves that it is total."""

import errno
import socket
import ssl

from domain.delivery.failure_kinds import FailureKind
from domain.urls.rules import UrlRefused
from sending.http.address_guard import AddressBlockedError
from sending.http.connection import ClosedBeforeAnswerError, MalformedResponseError
from sending.http.pool import HandshakeCutError

# The machine has run out of a resource, which is no fault of the receiver.
_OUR_OWN_ERRNO = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_RESET_ERRNO = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOTCONN})

_WITH_OWN_TEXT = (
    AddressBlockedError,
    UrlRefused,
    HandshakeCutError,
    ClosedBeforeAnswerError,
    MalformedResponseError,
)

# Looked up along the exception's class hierarchy, so the most specific entry wins.
KINDS: dict[type[BaseException], FailureKind] = {
    AddressBlockedError: FailureKind.blocked,
    UrlRefused: FailureKind.blocked,
    TimeoutError: FailureKind.timeout,
    socket.gaierror: FailureKind.dns,
    ssl.SSLError: FailureKind.tls,
    HandshakeCutError: FailureKind.tls,
    ClosedBeforeAnswerError: FailureKind.reset,
    MalformedResponseError: FailureKind.invalid_response,
    OSError: FailureKind.connect,
}


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
