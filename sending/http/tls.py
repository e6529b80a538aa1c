"""The TLS side of the sender: whom it trusts, who it is, and sessions resumed instead of negotiated anew."""

import ssl
import time
from collections import OrderedDict
from typing import Any, Self

import certifi

_SESSIONS_MAX = 2048  # some KB each
# A resumed session does not show its certificate again; an hour bounds how long a revoked one is still trusted.
_SESSION_SECONDS = 3600.0


class CertificateFileError(Exception):
    """A certificate file of the installation is missing or not what it should be. The message names it."""


class SessionKeepingContext(ssl.SSLContext):
    """A client context that offers the last session with a host again: one round trip and no certificates less.

    asyncio never passes a session itself. Sessions are kept by the name for which the certificate was verified, by this
    very context, and handed in by `keep` when a connection ends (TLS 1.3 sends tickets only after the handshake).
    """

    _sessions: OrderedDict[str, tuple[ssl.SSLSession, float]]

    def __new__(cls, protocol: int = ssl.PROTOCOL_TLS_CLIENT, *args: Any, **kwargs: Any) -> Self:
        """Begin without sessions."""
        context = super().__new__(cls, protocol, *args, **kwargs)
        context._sessions = OrderedDict()
        return context

    def keep(self, connection: ssl.SSLObject) -> None:
        """Remember the session of a connection that was established with a verified certificate."""
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
        """Return the TLS state of a new connection, offering the kept session with `server_hostname` if any."""
        if session is None and isinstance(server_hostname, str):
            kept = self._sessions.get(server_hostname)
            if kept is not None and time.monotonic() - kept[1] < _SESSION_SECONDS:
                session = kept[0]
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def client_context(ca_bundle: str | None, client_cert: str | None) -> SessionKeepingContext:
    """Return the context for outgoing connections.

    Trusted are the public authorities (certifi's, the same on every machine) and beside them those in the PEM file
    `ca_bundle`; `client_cert` is a PEM file with certificate chain and key. Raises CertificateFileError.
    """
    context = SessionKeepingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    try:
        if ca_bundle is not None:
            context.load_verify_locations(ca_bundle)
    except OSError as error:
        raise CertificateFileError(
            f"cannot read certificates from {ca_bundle} (a PEM file is expected): {error}"
        ) from error
    try:
        if client_cert is not None:
            context.load_cert_chain(client_cert)
    except OSError as error:
        raise CertificateFileError(
            f"cannot read a client certificate from {client_cert} (a PEM file with chain and key is expected): {error}"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
