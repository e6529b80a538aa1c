"""Authentication in requests about subscriptions."""

import os
import re
import ssl
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from api.body import Input
from domain.urls.rules import URL_MAX_CHARACTERS
from domain.wire.client_certificate import (
    PEM_MOST_CHARACTERS,
    ClientCertificate,
    ClientCertificateRefused,
    Validity,
    validity_of,
)
from domain.wire.excerpts import MASK
from domain.wire.headers import VALUE_MOST_CHARACTERS

PART_MOST_CHARACTERS = 1024
"""Maximum length of a user name or password: the header of both is no longer than other headers."""


@dataclass(frozen=True)
class CredentialText:
    """Validator and schema of a field. `form` describes its `characters`, a pattern; a secret may be a mask."""

    characters: str
    form: str
    most: int = PART_MOST_CHARACTERS
    secret: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        masked = (
            f" A secret, returned as {MASK}; in an update, {MASK} keeps the stored value, \
unless its destination gets another origin."
            if self.secret
            else ""
        )
        about = f"{self.form.capitalize()}.{masked}"
        return {"type": "string", "maxLength": self.most, "pattern": f"^{self.characters}$", "description": about}

    def _checked(self, text: str) -> str:
        if (self.secret and text == MASK) or (len(text) <= self.most and re.fullmatch(self.characters, text)):
            return text
        facts = {"form": self.form, "most": self.most}
        raise PydanticCustomError("credential", "must be {form}, at most {most} characters", facts)


class BasicAuthentication(Input):
    """User name and password."""

    type: Literal["basic"]
    username: Annotated[str, CredentialText("[ -9;-~]+", "visible ASCII and spaces without a colon")]
    password: Annotated[str, CredentialText("[ -~]*", "visible ASCII and spaces", secret=True)]


class BearerAuthentication(Input):
    """A fixed token."""

    type: Literal["bearer"]
    token: Annotated[str, CredentialText("[!-~]+", "visible ASCII", VALUE_MOST_CHARACTERS - 7, secret=True)]


_SCOPE = r"[!#-\[\]-~]+"
Scope: TypeAlias = Annotated[str, CredentialText(rf"{_SCOPE}(?: {_SCOPE})*", "scopes, one space between them")]
Pem: TypeAlias = Annotated[str, CredentialText(r"[\t\n\r -~]+", "text in PEM", PEM_MOST_CHARACTERS, secret=True)]


class MtlsAuthentication(Input):
    """A client certificate with its chain, and its private key without a passphrase."""

    type: Literal["mtls"]
    certificate: Pem
    private_key: Pem


class OAuth2Authentication(Input):
    """A token by the client credentials grant (RFC 6749, section 4.4), from a token URL that the URL rules permit."""

    type: Literal["oauth2"]
    token_url: Annotated[str, Field(min_length=1, max_length=URL_MAX_CHARACTERS, json_schema_extra={"format": "uri"})]
    client_id: Annotated[str, CredentialText("[ -~]+", "visible ASCII and spaces")]
    client_secret: Annotated[str, CredentialText("[ -~]+", "visible ASCII and spaces", secret=True)]
    scope: Scope | None = None


Authentication: TypeAlias = Annotated[
    BasicAuthentication | BearerAuthentication | OAuth2Authentication | MtlsAuthentication, Field(discriminator="type")
]

SHOWN = f"Type and fields as given, secrets as {MASK}; null: none."
"""Description of the authentication in responses."""


def given_validity(given: MtlsAuthentication) -> Validity | None:
    """Check a client certificate, which takes some ms. Return None if it is masked. Raises ClientCertificateRefused."""
    if given.certificate == given.private_key == MASK:
        return None
    for name, value, other in (
        ("certificate", given.certificate, "private key"),
        ("privateKey", given.private_key, "certificate"),
    ):
        if value == MASK:
            raise ClientCertificateRefused(name, f"must be given together with its {other}")
    pair = ClientCertificate(given.certificate, given.private_key)
    validity = validity_of(pair)
    if reason := _tls_refusal(pair):
        raise ClientCertificateRefused("certificate", f"cannot be used for TLS: {reason}")
    return validity


def _tls_refusal(pair: ClientCertificate) -> str | None:
    """Return the reason for which the TLS of deliveries refuses a client certificate, or None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    descriptor = os.memfd_create("pem")  # in memory, because the ssl module reads files only
    try:
        os.write(descriptor, f"{pair.private_key}\n{pair.certificate}".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")  # not to ask at the terminal for one
    except ssl.SSLError as error:
        return (error.reason or "unknown").lower().replace("_", " ")
    finally:
        os.close(descriptor)
    return None
