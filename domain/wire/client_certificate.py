"""Client certificate of a subscription, in PEM: the certificate with its chain, and the private key (mTLS)."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

PEM_MOST_CHARACTERS = 16_384
"""Maximum length of a certificate with its chain, or of a key: eight certificates, or the largest RSA key."""

EXPIRES_SOON_DAYS = 30
"""Days before the expiry of a certificate from which its operator is told, weekly: enough to have one issued."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Certificate, with its chain, and private key. Connections and TLS sessions belong to one."""

    certificate: str = field(repr=False)
    private_key: str = field(repr=False)


class ClientCertificateRefused(ValueError):  # noqa: N818 - reads as what happened
    """The certificate or the key cannot be used; `name` is the field of the API. The message shows neither."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def expiry_of(pair: ClientCertificate) -> datetime:
    """Return the instant at which the first of the certificates expires. Raises ClientCertificateRefused."""
    try:
        chain = load_pem_x509_certificates(pair.certificate.encode())
        expires_at, certified = min(one.not_valid_after_utc for one in chain), chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClientCertificateRefused("certificate", "is no certificate in PEM") from error
    try:
        key = load_pem_private_key(pair.private_key.encode(), password=None)
    except TypeError as error:
        raise ClientCertificateRefused("privateKey", "is encrypted: remove its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClientCertificateRefused("privateKey", "is no private key in PEM") from error
    if key.public_key() != certified:
        raise ClientCertificateRefused("privateKey", "is not the key of the (first) certificate")
    return expires_at
