"""Client certificate of a subscription, in PEM: the certificate with its chain, and the private key (mTLS)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

PEM_MOST_CHARACTERS = 16_384
"""Maximum length of a certificate with its chain, or of a key: eight certificates."""

RSA_MOST_BITS = 4096
"""Maximum length of an RSA key: the time for a signature grows with its cube, and each handshake has one."""

EXPIRES_SOON_DAYS = 30
"""Days before the expiry of a certificate from which its operator is told, weekly: enough to have one issued."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Certificate, with its chain, and private key. Connections and TLS sessions belong to one."""

    certificate: str = field(repr=False)
    private_key: str = field(repr=False)


Validity: TypeAlias = tuple[datetime, datetime]
"""The first and the last instant at which all certificates of a chain are valid."""


class ClientCertificateRefused(ValueError):  # noqa: N818 - reads as what happened
    """The certificate or the key cannot be used; `name` is the field of the API. The message shows neither."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def validity_of(pair: ClientCertificate) -> Validity:
    """Return the validity of the chain. Raises ClientCertificateRefused."""
    try:
        chain = load_pem_x509_certificates(pair.certificate.encode())
        begins_at = max(one.not_valid_before_utc for one in chain)
        ends_at, certified = min(one.not_valid_after_utc for one in chain), chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClientCertificateRefused("certificate", "is no certificate in PEM") from error
    try:
        # Validating an RSA key takes 0.1 s to minutes, and would say no more than the comparison with the certificate.
        key = load_pem_private_key(pair.private_key.encode(), password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise ClientCertificateRefused("privateKey", "is encrypted: remove its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClientCertificateRefused("privateKey", "is no private key in PEM") from error
    if isinstance(key, RSAPrivateKey) and key.key_size > RSA_MOST_BITS:
        raise ClientCertificateRefused("privateKey", f"is an RSA key of more than {RSA_MOST_BITS} bits")
    if key.public_key() != certified:
        raise ClientCertificateRefused("privateKey", "is not the key of the (first) certificate")
    return begins_at, ends_at
