"""Attacks of clients on the API, over real sockets. The cases are those of the API's tests."""

import asyncio
import base64
import io
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from api.panel.app import named_routes
from api.panel.frame.sessions import PATH, SESSION_COOKIE
from commands.api import KEEP_ALIVE_SECONDS, OTHER_FILES
from commands.configuration import raise_descriptor_limit
from domain.access import Scope
from settings import Settings
from telemetry.connections import BODY_SECONDS
from tests.api.test_connections import ALIVE, ANSWERED_EARLY, ENDLESS, FLOOD_BYTES, LOGIN, TOO_LARGE, head_of, peer
from tests.api.test_expensive_requests import ATTACKS as EXPENSIVE
from tests.api.test_rights import GUARDED, OF_A_STORE
from tests.api.test_schemathesis import Served, schemathesis
from tests.attack.tried import Tried

EXAMPLES = 10
"""Of each operation, times the scale."""

REPEATS = 5
"""Of each head and each expensive request, times the scale."""

PIECES_BYTES = (1024, 16 * 1024, 64 * 1024)
BEYOND_LIMIT = 100
"""Connections above the limit."""

AT_ONCE = 100
LATE_SECONDS = 15.0
"""After the time-out, on a busy machine."""

ADMITTED_SECONDS = 10.0
STRANGE_STORES = ("nowhere", "%00", "a%2Fb", "..", "ä", "x" * 100, "admin", "DEFAULT")
REFUSED = {401, 403, 404}


@dataclass(frozen=True)
class Target:
    """The API under attack, and a key with every right."""

    root: str
    key: str
    directory: Path
    random: Random
    scale: float

    def times(self, number: int) -> int:
        """The number at this scale."""
        return max(1, round(number * self.scale))


async def malformed_calls(target: Target) -> Tried:
    """Schemathesis with data that fits the OpenAPI document and data that does not."""
    try:
        with redirect_stdout(io.StringIO()):
            cases, _ = await schemathesis(
                Served(target.root, target.key),
                target.directory,
                *("--phases", "examples,fuzzing,stateful", "--max-examples", str(target.times(EXAMPLES))),
                *("--seed", str(target.random.randrange(2**31))),
            )
        return Tried(cases)
    except AssertionError as broken:
        report = str(broken)
        tried = re.search(r"([\d,]+) generated", report)
        failures = re.findall(r"^_+ (.+?) _+$", report, re.MULTILINE)
        return Tried(int(tried[1].replace(",", "")) if tried else 0, failures or [report[-1000:]])


async def large_heads(target: Target) -> Tried:
    """Heads above each bound, and parts of a request that never end."""
    tried = Tried()
    cases = [*ENDLESS, *TOO_LARGE] * target.times(REPEATS)
    target.random.shuffle(cases)
    for name in cases:
        async with peer(target.root) as client:
            if name in TOO_LARGE:
                _, size, status = TOO_LARGE[name]
                await client.send(head_of(**size))
                tried.note(name, (await client.answer())[0] != status)
                continue
            beginning, more = ENDLESS[name]
            more *= max(1, target.random.choice(PIECES_BYTES) // len(more))
            closed = asyncio.create_task(client.closed())
            await client.send(beginning)
            sent = 0
            while not closed.done() and sent < FLOOD_BYTES:
                await client.send(more)
                sent += len(more)
                await asyncio.sleep(0)
            tried.note(name, sent >= FLOOD_BYTES)
    return tried


async def unfinished_requests(target: Target) -> Tried:
    """More connections than the limit, with nothing, half a head, a head that trickles, half a body, or a body
    that ends after its response."""
    limit = min(Settings.model_fields["connection_limit"].default, raise_descriptor_limit() - OTHER_FILES)
    beginnings = {
        "nothing": b"",
        "half a head": ALIVE,
        "a trickling head": ALIVE,
        "half a body": LOGIN + b"Content-Length: 100\r\n\r\n{",
        "a body that ends late": ANSWERED_EARLY[0],
    }
    names = target.random.choices([*beginnings], k=limit + BEYOND_LIMIT)
    tried, places = Tried(), asyncio.Semaphore(AT_ONCE)

    async def hold(name: str) -> None:
        async with places:
            reader, writer = await asyncio.open_connection(*httpx.URL(target.root).netloc.decode().split(":"))
        writer.write(beginnings[name])
        late = name == "a body that ends late"
        try:
            async with asyncio.timeout((KEEP_ALIVE_SECONDS if late else BODY_SECONDS) + LATE_SECONDS):
                if late:
                    with suppress(EOFError, ConnectionError):
                        await reader.readuntil(b"\r\n\r\n")
                    writer.write(ANSWERED_EARLY[1])
                closed = asyncio.create_task(reader.read())
                while name == "a trickling head" and not closed.done():
                    writer.write(b"a")
                    await asyncio.wait([closed], timeout=1)
                with suppress(ConnectionError):
                    await closed
            tried.note(name, False)
        except TimeoutError:
            tried.note(name, True)
        finally:
            writer.close()

    await asyncio.gather(*map(hold, names))
    async with asyncio.timeout(ADMITTED_SECONDS), httpx.AsyncClient(base_url=target.root) as other:
        while (await other.get("/healthz")).status_code != httpx.codes.OK:
            await asyncio.sleep(0.1)
    return tried


async def expensive_requests(target: Target) -> Tried:
    """Requests that are as expensive as their size allows."""
    tried = Tried()
    names = [*EXPENSIVE] * target.times(REPEATS)
    target.random.shuffle(names)
    async with httpx.AsyncClient(base_url=target.root, headers={"X-AUTH-TOKEN": target.key}, timeout=120) as attacker:
        for name in names:
            path, body, headers, status = EXPENSIVE[name]
            answer = await attacker.post(path, content=body.encode(), headers=headers)
            tried.note(f"{name}: {answer.status_code}", answer.status_code != status)
    return tried


async def rights(target: Target) -> Tried:
    """Each route without credentials, with forged ones, without the right, from another store, for strange stores."""
    tried = Tried()
    async with httpx.AsyncClient(base_url=target.root, timeout=60) as client:

        async def key(name: str, scopes: list[Scope], stores: list[str]) -> dict[str, str]:
            wanted = {"apiKey": {"name": name, "scopes": scopes, "stores": stores}}
            made = await client.post("/api/admin/api-key", json=wanted, headers={"X-AUTH-TOKEN": target.key})
            made.raise_for_status()
            return {"X-AUTH-TOKEN": made.json()["apiKey"]}

        async def attempt(method: str, path: str, headers: dict[str, str]) -> None:
            answer = await client.request(method, f"{path}?nonsense=1", content=b"nonsense", headers=headers)
            if path.startswith(f"{PATH}/"):
                tried.note(f"{method} {path}: {answer.status_code}", answer.is_success)
            else:
                tried.note(f"{method} {path}: {answer.status_code}", answer.status_code not in REFUSED)

        forged = (
            {},
            {"X-AUTH-TOKEN": "lwk_nonsense"},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": f"Bearer {unsigned_token()}"},
        )
        another = {"store": {"storeCode": "another"}}
        await client.post("/api/admin/store", json=another, headers={"X-AUTH-TOKEN": target.key})
        elsewhere = await key("elsewhere", [Scope.ADMIN], ["another"])
        scopes = {route.right.scope for route in GUARDED}
        rightless = {
            scope: await key(f"not {scope}", [one for one in Scope if one not in (scope, Scope.ADMIN)], ["*"])
            for scope in scopes
        }
        routes = [*GUARDED]
        target.random.shuffle(routes)
        for route in routes:
            for headers in forged:
                for store in ("default", "nowhere"):
                    await attempt(route.method, route.at(store), headers)
            await attempt(route.method, route.at("default"), rightless[route.right.scope])
            if route in OF_A_STORE:
                await attempt(route.method, route.at("default"), elsewhere)
                for store in STRANGE_STORES:
                    await attempt(route.method, route.at(store), rightless[route.right.scope])
        for page in named_routes().values():
            path = re.sub(r"\{\w+\}", "default", PATH + page.path, count=1)
            path = re.sub(r"\{\w+\}", "0a1b2c3d-4e5f-4061-8273-8495a6b7c8d9", path)
            for headers in ({}, {"Cookie": f"{SESSION_COOKIE}={base64.urlsafe_b64encode(bytes(32)).decode()}"}):
                await attempt(page.method, path, headers)
    return tried


def unsigned_token() -> str:
    """A token that claims every right and is signed by nobody."""
    parts: tuple[dict[str, Any], ...] = (
        {"alg": "none", "typ": "JWT"},
        {"sub": "admin", "username": "admin", "exp": 2**31, "iat": 0},
    )
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


API_ATTACKS: dict[str, tuple[Callable[[Target], Awaitable[Tried]], str]] = {
    "malformed calls": (malformed_calls, "a 5xx, or an answer that the OpenAPI document does not allow"),
    "large heads, parts without end": (large_heads, "not 414 or 431, or read on beyond 64 MB"),
    "unfinished requests": (unfinished_requests, "a connection that is open after its time-out"),
    "expensive requests": (expensive_requests, "another status than the test of this request allows"),
    "rights bypassed": (rights, "not 401, 403 or 404; in the panel a page"),
}
"""Attacks, and what counts as let in."""
