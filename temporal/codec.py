"""What Temporal holds, encrypted: inputs, results, memos, summaries and failures of workflows and activities.

Temporal never sees personal data (inputs are references), so this is for those who want even the references hidden.
Workflow ids and search attributes cannot be encrypted: they are what Temporal finds workflows by.
"""

from collections.abc import Sequence
from dataclasses import replace

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    PayloadCodec,
)

PLAIN = "none"
"""As the first of the keys: encrypt nothing any more, and still decrypt what the others encrypted."""

ENCODING = b"binary/encrypted"
"""The name Temporal's Web UI and its samples know encrypted payloads by."""

CIPHER = b"fernet"


class PayloadKeyError(Exception):
    """A payload was encrypted with a key that is not in TEMPORAL_PAYLOAD_KEYS."""


class EncryptingCodec(PayloadCodec):
    """Encrypts with the first key, decrypts with any; what was written without encryption is read as it is.

    Keys are 32 bytes in URL-safe base64; the first may be `none`. Raises `ValueError` for a key that is none.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        ciphers = [Fernet(key) for key in keys if key != PLAIN]
        if not ciphers or PLAIN in keys[1:]:
            raise ValueError("each key is 32 bytes in URL-safe base64; the first may be 'none' before others")
        self._first = None if keys[0] == PLAIN else ciphers[0]
        self._any = MultiFernet(ciphers)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload whole, so that not even its type or size in characters is told."""
        if self._first is None:
            return list(payloads)
        return [
            Payload(
                metadata={"encoding": ENCODING, "cipher": CIPHER}, data=self._first.encrypt(payload.SerializeToString())
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads as they were; raises `PayloadKeyError`."""
        return [self._decoded(payload) for payload in payloads]

    def _decoded(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING or payload.metadata.get("cipher") != CIPHER:
            return payload
        try:
            return Payload.FromString(self._any.decrypt(payload.data))
        except InvalidToken as error:
            raise PayloadKeyError("encrypted with a key that is not in TEMPORAL_PAYLOAD_KEYS") from error


_JSON = PydanticJSONPlainPayloadConverter()
"""One for all: it remembers how each type is read, 1.6 ms of an event with a workflow of its own before."""


class PayloadConverter(CompositePayloadConverter):
    """temporalio's for pydantic types, made anew for each workflow as any; what it remembers is not forgotten."""

    def __init__(self) -> None:
        default = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(_JSON if isinstance(one, JSONPlainPayloadConverter) else one for one in default))


PLAIN_CONVERTER = DataConverter(payload_converter_class=PayloadConverter)
"""What Temporal holds can be read in its Web UI."""


def data_converter(payload_keys: Sequence[str]) -> DataConverter:
    """How clients and workers write to Temporal and read from it; without keys nothing is encrypted."""
    if not payload_keys:
        return PLAIN_CONVERTER
    return replace(
        PLAIN_CONVERTER,
        payload_codec=EncryptingCodec(payload_keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
