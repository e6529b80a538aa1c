"""The TLS side of the sender: whom it trusts and who it is."""

import ssl

import certifi


def client_context(ca_bundle: str | None, client_cert: str | None) -> ssl.SSLContext:
    """Return the context for outgoing connections.

    Trusted are the public authorities (certifi's, the same on every machine) and beside them those in the PEM file
    `ca_bundle`; `client_cert` is a PEM file with certificate chain and key. Raises OSError or ssl.SSLError when a file
    is missing or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    if ca_bundle is not None:
        context.load_verify_locations(ca_bundle)
    if client_cert is not None:
        context.load_cert_chain(client_cert)
    context.set_alpn_protocols(["http/1.1"])
    return context
