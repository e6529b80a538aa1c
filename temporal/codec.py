"""Encryption of the payloads in Temporal: inputs, results, memos, summaries and failures.

Temporal never sees personal data (inputs are references), so this is for installations that hide even the references.
Workflow ids and search attributes cannot be encrypted, because Temporal finds workflows by them.
"""

from collections.abc import Sequence
from dataclasses import replace

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    PayloadCodec,
)
from temporalio.converter import PayloadConverter as AnyPayloadConverter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

PLAIN = "none"
"""Value of the first key that stops encryption; the other keys still decrypt existing payloads."""

ENCODING = b"binary/encrypted"
"""Encoding of encrypted payloads in Temporal's Web UI and its samples."""

CIPHER = b"fernet"


class PayloadKeyError(Exception):
    """A payload was encrypted with a key that is not in TEMPORAL_PAYLOAD_KEYS."""


class EncryptingCodec(PayloadCodec):
    """Codec that encrypts with the first key and decrypts with any key. It passes unencrypted payloads through. Keys
    are 32 bytes in URL-safe base64; the first may be `none`. Raises `ValueError` for an invalid key."""

    def __init__(self, keys: Sequence[str]) -> None:
        ciphers = [Fernet(key) for key in keys if key != PLAIN]
        if not ciphers or PLAIN in keys[1:]:
            raise ValueError("each key is 32 bytes in URL-safe base64; the first may be 'none' before others")
        self._first = None if keys[0] == PLAIN else ciphers[0]
        self._any = MultiFernet(ciphers)

    @property
    def encrypts(self) -> bool:
        """False if the first key is `none`."""
        return self._first is not None

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload as a whole, so that not even its type or size in characters is visible."""
        if self._first is None:
            return list(payloads)
        encrypted = [self._first.encrypt(payload.SerializeToString()) for payload in payloads]
        return [Payload(metadata={"encoding": ENCODING, "cipher": CIPHER}, data=data) for data in encrypted]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt the payloads. Raises `PayloadKeyError`."""
        return [self._decoded(payload) for payload in payloads]

    def _decoded(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING or payload.metadata.get("cipher") != CIPHER:
            return payload
        try:
            return Payload.FromString(self._any.decrypt(payload.data))
        except InvalidToken as error:
            raise PayloadKeyError("encrypted with a key that is not in TEMPORAL_PAYLOAD_KEYS") from error


_JSON = PydanticJSONPlainPayloadConverter()
"""Shared converter. It caches the parser of each type, which took 1.6 ms per event with a workflow of its own."""


class PayloadConverter(CompositePayloadConverter):
    """Payload converter for pydantic types. Temporal builds one per workflow; the parser cache is shared by all."""

    def __init__(self) -> None:
        default = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(_JSON if isinstance(one, JSONPlainPayloadConverter) else one for one in default))


class FailureConverter(DefaultFailureConverter):
    """Failure converter that leaves out the stack trace of an expected failure, which is longer than its reason."""

    def to_failure(self, exception: BaseException, payload_converter: AnyPayloadConverter, failure: Failure) -> None:
        """Write the failure of an exception."""
        if isinstance(exception, ApplicationError) and exception.category is ApplicationErrorCategory.BENIGN:
            exception = exception.with_traceback(None)
        super().to_failure(exception, payload_converter, failure)


class EncodedFailureConverter(FailureConverter):
    """The same, with message and stack trace among what the codec encrypts."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


PLAIN_CONVERTER = DataConverter(payload_converter_class=PayloadConverter, failure_converter_class=FailureConverter)
"""Data converter without encryption: payloads are readable in the Web UI."""


def data_converter(payload_keys: Sequence[str]) -> DataConverter:
    """Return the data converter of clients and workers. Without keys nothing is encrypted."""
    if not payload_keys:
        return PLAIN_CONVERTER
    return replace(
        PLAIN_CONVERTER,
        payload_codec=EncryptingCodec(payload_keys),
        failure_converter_class=EncodedFailureConverter,
    )
