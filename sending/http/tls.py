"""TLS of the HTTP client: trusted authorities, client certificate, session resumption."""

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Self

import certifi

_SESSIONS_MAX = 2048  # a few KB each
# A resumed session does not present its certificate again. An hour limits how long a revoked one is still trusted.
_SESSION_SECONDS = 3600.0


class CertificateFileError(Exception):
    """A certificate file of the installation is missing or invalid. The message names it."""


class ResumingContext(ssl.SSLContext):
    """Client context that resumes the last session with a host, which saves a round trip and the certificates. asyncio
    passes no session itself. Sessions are stored under the name for which this context verified the certificate.
    `store` is called when a connection ends, because TLS 1.3 sends tickets only after the handshake."""

    _sessions: OrderedDict[str, tuple[ssl.SSLSession, float]]

    def __new__(cls, protocol: int = ssl.PROTOCOL_TLS_CLIENT, *args: Any, **kwargs: Any) -> Self:
        context = super().__new__(cls, protocol, *args, **kwargs)
        context._sessions = OrderedDict()
        return context

    def store(self, connection: ssl.SSLObject) -> None:
        """Store the session of a connection whose certificate was verified."""
        name, session = connection.server_hostname, connection.session
        if name is None or session is None or not session.has_ticket:
            return
        self._sessions[name] = (session, time.monotonic())
        self._sessions.move_to_end(name)
        while len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return the TLS state of a new connection, which offers the stored session of `server_hostname`, if any."""
        if session is None and isinstance(server_hostname, str):
            stored = self._sessions.get(server_hostname)
            if stored is not None and time.monotonic() - stored[1] < _SESSION_SECONDS:
                session = stored[0]
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def client_context(ca_bundle: str | None, client_cert: str | None) -> ResumingContext:
    """Return the context for outgoing connections. It trusts the public authorities (certifi's, the same on every
    machine) and those in the PEM file `ca_bundle`. `client_cert` is a PEM file with certificate chain and key. Raises
    CertificateFileError."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    files: tuple[tuple[str | None, Callable[[str], object], str, str], ...] = (
        (ca_bundle, context.load_verify_locations, "certificates", "a PEM file"),
        (client_cert, context.load_cert_chain, "a client certificate", "a PEM file with chain and key"),
    )
    for path, load, content, expected in files:
        try:
            if path is not None:
                load(path)
        except OSError as error:
            text = f"cannot read {content} from {path} ({expected} is expected): {error}"
            raise CertificateFileError(text) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
