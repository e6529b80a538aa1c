"""The two signatures of a delivery: the platform's own scheme and Standard Webhooks.

Source: section 2 of the wire contract. Both are computed from exactly the bytes that are sent, so the caller passes
`host` and `path` of the normalised URL (`domain.urls.rules.NormalisedUrl`) and the body as it goes over the wire.
"""

import base64
import binascii
import hmac
from functools import lru_cache
from hashlib import sha256

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of a key, not a key
SECRET_BYTES = 32
ALGORITHM = "hmac-sha256"


class MalformedSecretError(ValueError):
    """The text is not a signing key. The message never contains the text."""


def format_secret(random_bytes: bytes) -> str:
    """Return the key that is shown to a subscriber once: `whsec_` and the padded standard base64 of 32 random bytes."""
    if len(random_bytes) != SECRET_BYTES:
        raise MalformedSecretError(f"a signing key is made of {SECRET_BYTES} random bytes, not {len(random_bytes)}")
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode("ascii")


@lru_cache(maxsize=4096)  # a key signs thousands of deliveries, and its two forms never change
def secret_keys(secret: str) -> tuple[bytes, bytes]:
    """Return the HMAC keys of `whsec_…`: (for `X-Webhook-Signature`, for `webhook-signature`).

    The platform's scheme takes the text behind the prefix as UTF-8, Standard Webhooks the bytes it encodes.
    Raises MalformedSecretError for a text that is not in the form of `format_secret`.
    """
    if not secret.startswith(SECRET_PREFIX):
        raise MalformedSecretError(f"a signing key starts with {SECRET_PREFIX}")
    text = secret[len(SECRET_PREFIX) :]
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedSecretError(f"behind {SECRET_PREFIX} a signing key is padded standard base64") from None
    if len(decoded) != SECRET_BYTES:
        raise MalformedSecretError(f"a signing key encodes {SECRET_BYTES} bytes, not {len(decoded)}")
    return text.encode("ascii"), decoded


@lru_cache(maxsize=1)  # called twice in a row: for the signature, then for the log
def body_sha256(body: bytes) -> bytes:
    """Return the SHA-256 of the bytes that are sent."""
    return sha256(body).digest()


def signed_text(method: str, host: str, path: str, body: bytes, timestamp: int, request_id: str) -> bytes:
    """Return the text that `X-Webhook-Signature` covers: six parts joined by LF, two with their length in bytes."""
    return (
        f"{method}\n{len(host.encode())}:{host}\n{len(path.encode())}:{path}\n"
        f"{body_sha256(body).hex()}\n{timestamp}\n{request_id}"
    ).encode()


def standard_signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one `v1,<base64>` entry of `webhook-signature` as the Standard Webhooks specification computes it."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + binascii.b2a_base64(digest, newline=False).decode("ascii")


def signature_headers(  # noqa: PLR0913 - each parameter is a signed fact
    *,
    method: str,
    host: str,
    path: str,
    body: bytes,
    timestamp: int,
    request_id: str,
    message_id: str,
    secret: str,
    previous_secret: str | None,
    version: int,
) -> list[tuple[str, str]]:
    """Return the eight signature headers of one attempt, in a fixed order.

    `host` is the `Host` header and `path` the percent-encoded path without the query, both as sent; `timestamp` is Unix
    seconds. `previous_secret` is the key before the last rotation while its 24 hours of overlap last, else None: it
    only adds a second entry to `webhook-signature`. `version` grows with each rotation.
    """
    own_key, standard_key = secret_keys(secret)
    signature = hmac.digest(own_key, signed_text(method, host, path, body, timestamp, request_id), "sha256").hex()
    standard = standard_signature(standard_key, message_id, timestamp, body)
    if previous_secret is not None:
        standard += " " + standard_signature(secret_keys(previous_secret)[1], message_id, timestamp, body)
    seconds = str(timestamp)
    return [
        ("X-Webhook-Signature", signature),
        ("X-Webhook-Signature-Algorithm", ALGORITHM),
        ("X-Webhook-Timestamp", seconds),
        ("X-Webhook-Request-Id", request_id),
        ("X-Webhook-Signature-Version", str(version)),
        ("webhook-id", message_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", standard),
    ]
