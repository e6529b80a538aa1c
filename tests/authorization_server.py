"""An authorization server on a real socket: the token endpoint of RFC 6749 for the client credentials grant.

    async with Receiver() as socket:
        server = AuthorizationServer(socket, clients={"shop": "s3cret"}, scopes={"deliveries"})
        socket.otherwise = server.token
        receiver.otherwise = server.protects(status(204))        # a resource, RFC 6750

Sections: 2.3.1 (client password), 3.2 (token endpoint), 3.3 (scope), 4.4 (client credentials), 5.1 and 5.2 (responses).
"""

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus
from uuid import uuid4

from tests.receiver import Exchange, Received, Receiver, Reply, status

NOT_STORED = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))


class Refusal(Exception):  # noqa: N818 - as the specification calls it
    """An error response of section 5.2."""

    def __init__(self, error: str, description: str, code: int = 400, *headers: tuple[str, str]) -> None:
        super().__init__(error)
        self.code = code
        self.headers = headers
        self.body = {"error": error, "error_description": description}


@dataclass
class AuthorizationServer:
    """Clients with their secrets, and the tokens it has issued with the instant (monotonic) at which each ends."""

    socket: Receiver
    clients: dict[str, str]
    scopes: set[str] = field(default_factory=set)
    life_seconds: float = 3600.0
    issued: dict[str, float] = field(default_factory=dict)
    granted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def token_url(self) -> str:
        return self.socket.url("/token")

    def revoke_all(self) -> None:
        self.issued.clear()

    async def token(self, exchange: Exchange) -> None:
        """The token endpoint."""
        try:
            body, code, headers = self._grant(exchange.request), 200, ()
        except Refusal as refusal:
            body, code, headers = refusal.body, refusal.code, refusal.headers
        content = (("Content-Type", "application/json;charset=UTF-8"), *NOT_STORED, *headers)
        await status(code, body=json.dumps(body).encode(), headers=content)(exchange)

    def _grant(self, request: Received) -> dict[str, Any]:
        if request.method != "POST":
            raise Refusal("invalid_request", "the client MUST use the HTTP POST method", 405)
        if (request.header("Content-Type") or "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise Refusal("invalid_request", "parameters are sent as application/x-www-form-urlencoded")
        pairs = [(name, value) for name, value in parse_qsl(request.body.decode(), strict_parsing=True) if value]
        form = dict(pairs)
        if len(form) != len(pairs):
            raise Refusal("invalid_request", "parameters MUST NOT be included more than once")
        self._authenticate(request, form)
        if "grant_type" not in form:
            raise Refusal("invalid_request", "grant_type is REQUIRED")
        if form["grant_type"] != "client_credentials":
            raise Refusal("unsupported_grant_type", "only client_credentials")
        wanted = set(form.get("scope", "").split(" ")) - {""}
        if not wanted <= self.scopes:
            raise Refusal("invalid_scope", f"unknown scope {sorted(wanted - self.scopes)[0]}")
        token = f"{uuid4().hex}.-_~+/="
        self.issued[token] = time.monotonic() + self.life_seconds
        self.granted.append({**form, "access_token": token})
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.life_seconds}

    def _authenticate(self, request: Received, form: dict[str, str]) -> None:
        header = request.header("Authorization")
        challenge = ("WWW-Authenticate", 'Basic realm="token"')
        if header is not None and "client_secret" in form:
            raise Refusal("invalid_request", "MUST NOT use more than one authentication method")
        if header is None:
            known = "client_id" in form and self.clients.get(form["client_id"]) == form.get("client_secret")
            if not known:
                raise Refusal("invalid_client", "unknown client, or no client authentication")
            return
        scheme, _, encoded = header.partition(" ")
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = secret = ""
        name, secret = unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
        if scheme.lower() != "basic" or name not in self.clients or self.clients[name] != secret:
            raise Refusal("invalid_client", "client authentication failed", 401, challenge)

    def protects(self, then: Reply) -> Reply:
        """A resource whose requests need a token of this server (RFC 6750, section 3)."""

        async def reply(exchange: Exchange) -> None:
            scheme, _, token = (exchange.request.header("Authorization") or "").partition(" ")
            if scheme == "Bearer" and self.issued.get(token, 0.0) > time.monotonic():
                await then(exchange)
                return
            challenge = ("WWW-Authenticate", 'Bearer realm="hook", error="invalid_token"')
            await status(401, body=f"not valid: {token}".encode(), headers=(challenge,))(exchange)

        return reply
