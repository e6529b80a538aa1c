"""A browser without scripts: it keeps cookies, and sends forms as they stand on the page it looks at.

somebody = await visitor(installed, "editor", (store,))
page = await somebody.get("/admin/default/webhooks")
await somebody.post("/admin/default/webhooks/new", {"url": "…"})
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import httpx

from api.panel.frame.sessions import PATH, SESSION_COOKIE, BrowserToken, new_token
from domain.access import ROLES
from storage.access.passwords import Passwords
from storage.access.queries import create_administrator, find_administrator
from storage.access.sessions import begin_session
from tests.api.installation import Installation

PASSWORD = "correct horse battery staple"
SESSION = "loyalty_webhooks_session"
_FORM_ID = re.compile(r'name="formId" value="([^"]+)"')
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')

hashes: dict[str, str] = {}


@dataclass
class Visitor:
    """Somebody with a browser."""

    client: httpx.AsyncClient
    username: str
    csrf: str = ""
    form_id: str = ""

    async def get(self, path: str) -> httpx.Response:
        """Look at a page; its CSRF token, and the id of a form that is taken once, are kept for the next form."""
        response = await self.client.get(path)
        if (found := _CSRF.search(response.text)) is not None:
            self.csrf = found[1]
        if (found := _FORM_ID.search(response.text)) is not None:
            self.form_id = found[1]
        return response

    async def post(
        self, path: str, fields: Mapping[str, str | Sequence[str]] | None = None, **headers: str
    ) -> httpx.Response:
        """Send a form, with what was kept of the last pages unless it is among the fields."""
        kept = {"csrf": self.csrf, "formId": self.form_id}
        return await self.client.post(path, data={**kept, **(fields or {})}, headers=headers)

    async def log_in(self, password: str = PASSWORD, wished: str = "") -> httpx.Response:
        """Fill in the log-in form."""
        await self.get("/admin/login")
        fields = {"username": self.username, "password": password, "next": wished}
        response = await self.post("/admin/login", fields)
        self.csrf = ""
        return response


async def stranger(installed: Installation, username: str = "nobody", address: str = "127.0.0.1") -> Visitor:
    """Somebody who is not logged in."""
    client = await installed.caller(address=address)
    client.headers["Origin"] = "http://api"
    return Visitor(client, username)


async def visitor(installed: Installation, role: str, stores: Sequence[str]) -> Visitor:
    """Return a new administrator of this role for these stores with an open session.

    The session is made as the log-in makes it, without its password check: hundreds of tests need a session, and a
    check takes 0.1 s of CPU by design.
    """
    username, token = f"{role}-{uuid4().hex[:8]}", new_token()
    if PASSWORD not in hashes:
        hashes[PASSWORD] = await Passwords().hash(PASSWORD)
    async with installed.database.transaction() as connection:
        await create_administrator(connection, username, hashes[PASSWORD], ROLES[role], stores)
        administrator = await find_administrator(connection, username=username)
        assert administrator is not None
        await begin_session(connection, token, administrator)
    somebody = await stranger(installed, username)
    somebody.client.cookies.set(SESSION_COOKIE, token, domain="api.local", path=PATH)  # as the jar names `api`
    somebody.csrf = BrowserToken(token, fresh=False).csrf
    return somebody
