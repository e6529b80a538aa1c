"""TLS of the HTTP client: trusted authorities, client certificate, session resumption."""

import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self
from weakref import WeakKeyDictionary

import certifi

from domain.wire.client_certificate import ClientCertificate

_SESSIONS_MAX = 2048  # a few KB each
# A resumed session does not present its certificate again. An hour limits how long a revoked one is still trusted.
_SESSION_SECONDS = 3600.0


class CertificateFileError(Exception):
    """A certificate file of the installation is missing or invalid. The message names it."""


PEER: ContextVar[Hashable] = ContextVar("peer")
"""Whose TLS sessions the connection being made may resume. Event loops pass the context neither it nor a session."""


class ResumingContext(ssl.SSLContext):
    """Client context that resumes the last session with a peer, which saves a round trip and the certificates. asyncio
    passes no session itself. A context has one client certificate, so its sessions have, too; they are stored by peer.
    `store` is called when a connection ends, because TLS 1.3 sends tickets only after the handshake."""

    _sessions: OrderedDict[Hashable, tuple[ssl.SSLSession, float]]
    _peers: WeakKeyDictionary[ssl.SSLObject, Hashable]

    def __new__(cls, protocol: int = ssl.PROTOCOL_TLS_CLIENT, *args: Any, **kwargs: Any) -> Self:
        context = super().__new__(cls, protocol, *args, **kwargs)
        context._sessions = OrderedDict()
        context._peers = WeakKeyDictionary()
        return context

    def store(self, connection: ssl.SSLObject) -> None:
        """Store the session of a connection whose certificate was verified."""
        peer, session = self._peers.get(connection), connection.session
        if peer is None or session is None or not session.has_ticket:
            return
        self._sessions[peer] = (session, time.monotonic())
        self._sessions.move_to_end(peer)
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
        """Return the TLS state of a new connection, which offers the stored session of its peer, if any."""
        peer = PEER.get(server_hostname)
        stored = self._sessions.get(peer)
        if session is None and stored is not None and time.monotonic() - stored[1] < _SESSION_SECONDS:
            session = stored[0]
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._peers[connection] = peer
        return connection


def client_context(
    ca_bundle: str | None, client_cert: str | None, certificate: ClientCertificate | None = None
) -> ResumingContext:
    """Return the context for outgoing connections. It trusts the public authorities (certifi's, the same on every
    machine) and those in the PEM file `ca_bundle`. `client_cert` is a PEM file with certificate chain and key, which
    `certificate` replaces. Raises CertificateFileError, and ssl.SSLError for a `certificate` that OpenSSL refuses."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    client_cert = client_cert if certificate is None else None
    files: tuple[tuple[str | None, Callable[[str], object], str, str], ...] = (
        (ca_bundle, context.load_verify_locations, "certificates", "a PEM file"),
        (
            client_cert,
            context.load_cert_chain,
            "a client certificate",
            "a PEM file with chain and key",
        ),
    )
    for path, load, content, expected in files:
        try:
            if path is not None:
                load(path)
        except OSError as error:
            text = f"cannot read {content} from {path} ({expected} is expected): {error}"
            raise CertificateFileError(text) from error
    if certificate is not None:
        with _in_memory(certificate.certificate) as chain, _in_memory(certificate.private_key) as key:
            context.load_cert_chain(chain, key, password="")  # not to ask at the terminal for one
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Provide the path of a file with this text, as the ssl module requires. It is on no disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
