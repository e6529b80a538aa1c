"""TLS of the HTTP client: trusted authorities, client certificate, session resumption."""

import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import certifi
from cryptography.x509 import load_pem_x509_certificate

from domain.wire.client_certificate import ClientCertificate

_SESSIONS_MAX = 2048  # a few KB each
# A resumed session does not present its certificate again. An hour limits how long a revoked one is still trusted.
_SESSION_SECONDS = 3600.0


class CertificateFileError(Exception):
    """A certificate file of the installation is missing or invalid. The message names it."""


PEER: ContextVar[Hashable] = ContextVar("peer")
"""Peer whose TLS sessions a new connection may resume. Event loops pass `wrap_bio` neither the peer nor a session."""

CLIENT_CERTIFICATE: ContextVar[ClientCertificate | None] = ContextVar("client_certificate", default=None)
"""Client certificate that the connection being made presents, for ClientCertificateContext."""


class ConnectionWatch(ssl.SSLObject):
    """TLS state that counts the records it reads: tiny ones cost CPU that neither packets nor bytes show."""

    records = 0

    def read(self, *args: Any) -> bytes:
        """Read from at most one record."""
        self.records += 1
        return super().read(*args)


class ResumingContext(ssl.SSLContext):
    """Client context that resumes the last session with a peer, which saves a round trip and the certificates. asyncio
    passes no session itself. Sessions are stored by peer, which includes the client certificate. `store` is called when
    a connection ends, because TLS 1.3 sends tickets only after the handshake."""

    sslobject_class = ConnectionWatch
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


class ClientCertificateContext(ResumingContext):
    """Client context for all client certificates with the same type of key. Each connection presents the one of
    CLIENT_CERTIFICATE, which costs it 0.2 ms; a context of its own would cost 10 ms and 670 KiB for the authorities.

    OpenSSL copies certificate, chain and key from the context when a connection is made, so that later ones do not
    affect it. A context has a place for each type of key: with several types, it could present the certificate of
    another connection."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Return the TLS state of a new connection. Raises ssl.SSLError for a certificate that OpenSSL refuses."""
        certificate = CLIENT_CERTIFICATE.get()
        if certificate is None:  # The last connection's is still in its place.
            raise RuntimeError("no client certificate to present")
        with _in_memory(certificate.certificate) as chain, _in_memory(certificate.private_key) as key:
            self.load_cert_chain(chain, key, password="")  # not to ask at the terminal for one
        return super().wrap_bio(*args, **kwargs)


def read_authorities(ca_bundle: str | None) -> str:
    """Return the certificates of the trusted authorities in PEM: the public ones (certifi's, the same on every machine)
    and those in the PEM file `ca_bundle`. Raises CertificateFileError."""
    if ca_bundle is None:
        return certifi.contents()
    try:
        own = Path(ca_bundle).read_text("ascii", "ignore")  # Other characters are in comments.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=own)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        text = f"cannot read certificates from {ca_bundle} (a PEM file is expected): {error}"
        raise CertificateFileError(text) from error
    return f"{certifi.contents()}\n{own}"


def client_context(authorities: str, client_cert: str | None) -> ResumingContext:
    """Return the context for outgoing connections. `authorities` are those of `read_authorities`, `client_cert` is a
    PEM file with certificate chain and key. Raises CertificateFileError."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, authorities)
    if client_cert is not None:
        try:
            context.load_cert_chain(client_cert)
        except OSError as error:
            expected = "a PEM file with chain and key is expected"
            text = f"cannot read a client certificate from {client_cert} ({expected}): {error}"
            raise CertificateFileError(text) from error
    return context


class ClientCertificates:
    """Contexts for the client certificates of subscriptions, one for each type of key."""

    def __init__(self, authorities: str) -> None:
        self._authorities = authorities  # read once, because the file may be replaced
        self._contexts: dict[str, ClientCertificateContext] = {}

    def of(self, certificate: ClientCertificate) -> ClientCertificateContext:
        """Return the context for the certificate. The first one of a type of key takes 10 ms."""
        leaf = load_pem_x509_certificate(certificate.certificate.encode())
        key_type = leaf.public_key_algorithm_oid.dotted_string
        if key_type not in self._contexts:
            context = self._contexts[key_type] = ClientCertificateContext(ssl.PROTOCOL_TLS_CLIENT)
            _configure(context, self._authorities)
        return self._contexts[key_type]


def _configure(context: ssl.SSLContext, authorities: str) -> None:
    context.load_verify_locations(cadata=authorities)
    context.set_alpn_protocols(["http/1.1"])


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Provide the path of a file with this text, as the ssl module requires. It is on no disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
