"""Authentication of a subscription's requests. Sources: RFC 7617 (basic), RFC 6750 (bearer), RFC 6749 (OAuth 2).

An authentication is a mapping with a `type` and the fields of that type, by their names in the API.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from domain.wire.client_certificate import ClientCertificate
from domain.wire.excerpts import MASK
from domain.wire.oauth2 import OAuth2Client

AuthenticationValues: TypeAlias = Mapping[str, str]

FIELDS: Mapping[str, Mapping[str, bool]] = {
    "basic": {"username": False, "password": True},
    "bearer": {"token": True},
    "oauth2": {"tokenUrl": False, "clientId": False, "clientSecret": True, "scope": False},
    "mtls": {"certificate": True, "privateKey": True},
}
"""Names of the fields of each type; True for a secret. A certificate is none, but is masked with its key."""

SECRETS = frozenset(name for names in FIELDS.values() for name, secret in names.items() if secret)

OPTIONAL = frozenset({"scope"})

AUTHORIZATION = "Authorization"


def sends_authorization(authentication: AuthenticationValues | None) -> bool:
    """Return True if the type sends the header `Authorization`."""
    return authentication is not None and authentication["type"] != "mtls"


def credentials(authentication: AuthenticationValues) -> str:
    """Return the header `Authorization` of the types basic and bearer."""
    if authentication["type"] == "bearer":
        return f"Bearer {authentication['token']}"
    pair = f"{authentication['username']}:{authentication['password']}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def client_certificate(authentication: AuthenticationValues | None) -> ClientCertificate | None:
    """Return the client certificate, or None if the type has none."""
    if authentication is None or authentication["type"] != "mtls":
        return None
    return ClientCertificate(authentication["certificate"], authentication["privateKey"])


def oauth2_client(authentication: AuthenticationValues) -> OAuth2Client | None:
    """Return the client of OAuth 2, or None for another type."""
    if authentication["type"] != "oauth2":
        return None
    token_url, client_id, secret = (authentication[name] for name in ("tokenUrl", "clientId", "clientSecret"))
    return OAuth2Client(token_url, client_id, secret, authentication.get("scope", ""))


def masked_authentication(authentication: AuthenticationValues | None) -> dict[str, str] | None:
    """Return the authentication with its secrets masked."""
    if authentication is None:
        return None
    return {name: MASK if name in SECRETS else value for name, value in authentication.items()}


def compared_authentication(
    before: AuthenticationValues | None, after: AuthenticationValues | None
) -> dict[str, str] | None:
    """Return `after` as an audit shows it: secrets that differ from those of `before` are marked, but not shown."""
    if after is None:
        return None
    known, new = before or {}, f"{MASK} (new)"
    marks = {name: MASK if value == known.get(name) else new for name, value in after.items() if name in SECRETS}
    return {**after, **marks}


def unmasked_authentication(
    given: AuthenticationValues, stored: AuthenticationValues | None
) -> tuple[dict[str, str], Iterable[str]]:
    """Return `given` with each mask replaced by the stored secret, and the names of masks without one."""
    known = stored if stored is not None and stored["type"] == given["type"] else {}
    values = {name: known.get(name, value) if value == MASK else value for name, value in given.items()}
    return values, [name for name in SECRETS & values.keys() if values[name] == MASK]
