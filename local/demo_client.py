"""API client of the demo: creates its subscriptions once and emits one of each event."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from domain.events.catalogue import CATALOGUE, EventType
from domain.wire.bodies import variants
from domain.wire.jsontext import dump
from local.demo_notices import DemoNotice, demo_notices
from local.stack_file import Stack

REQUEST_SECONDS = 20.0
"""Timeout of a request. Caches are cold right after the start."""

PAGE_ITEMS = 50
"""Maximum page size of the API. The demo has 34 subscriptions."""

NAME_PREFIX = "Demo: "
FORMATS = ("modern", "legacy")


class DemoError(Exception):
    """The API refused a call of the demo. The message holds its response."""


@dataclass(frozen=True)
class DemoSubscription:
    """A subscription of the demo."""

    id: UUID
    event_name: str
    format: str


def seed_events() -> list[EventType]:
    """Return the events of the demo, each with its sample."""
    return [event_type for event_type in CATALOGUE.values() if event_type.seed]


def expected_variants(event_type: EventType, form: str) -> tuple[str, ...]:
    """Return the variants that the sample produces for a subscription in that format, one per delivery."""
    return variants(event_type.name, dump(event_type.sample), form == "legacy")


def path_of(event_name: str, form: str) -> str:
    """Return the receiver's path for a subscription."""
    return f"/demo/{form}/{event_name}"


class DemoClient:
    """Client for one store. Use as an async context manager."""

    def __init__(self, stack: Stack) -> None:
        self._store = stack.store
        self._root = f"{stack.api}/api/{stack.store}"
        self._session = aiohttp.ClientSession(
            headers={"X-AUTH-TOKEN": stack.api_key}, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        )

    async def __aenter__(self) -> "DemoClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ensure_subscriptions(self, receiver: str) -> list[DemoSubscription]:
        """Subscribe the receiver (its root URL) to every seed event in both formats. Reuses existing subscriptions."""
        existing = await self._existing()
        return [
            await self._ensure(event_type.name, form, receiver, existing)
            for event_type in seed_events()
            for form in FORMATS
        ]

    async def _existing(self) -> dict[str, dict[str, Any]]:
        query = {"name[like]": NAME_PREFIX, "_itemsOnPage": str(PAGE_ITEMS)}
        listed = await self._call("GET", "/webhook/subscription", params=query)
        return {row["name"]: row for row in listed["items"]}

    async def _ensure(
        self, event_name: str, form: str, receiver: str, existing: dict[str, dict[str, Any]]
    ) -> DemoSubscription:
        name = f"{NAME_PREFIX}{event_name}, {form}"
        wanted = {"url": receiver + path_of(event_name, form), "name": name, "legacy": form == "legacy"}
        row = existing.get(name)
        if row is None:
            body = {"eventName": event_name, "hmacEnabled": True, **wanted}
            row = await self._call("POST", "/webhook/subscription", json={"webhookSubscription": body})
        elif row["url"] != wanted["url"]:  # the receiver got another port this time
            path = f"/webhook/subscription/{row['webhookSubscriptionId']}"
            await self._call("PUT", path, json={"webhookSubscription": wanted})
        return DemoSubscription(UUID(row["webhookSubscriptionId"]), event_name, form)

    async def emit_sample(self, event_type: EventType, event_id: UUID) -> None:
        """Emit the event's sample under this id."""
        fields = f'"eventName":"{event_type.name}","eventId":"{event_id}","data":{dump(event_type.sample)}'
        headers = {"Content-Type": "application/json"}
        await self._call("POST", "/event", data=f'{{"event":{{{fields}}}}}', headers=headers)

    async def notices(self) -> dict[str, DemoNotice]:
        """Return the rows that expire on the day due today, by the name of their event."""
        return demo_notices(self._store, (await self._call("GET", "/settings"))["settings"])

    async def trigger(self, notice: DemoNotice) -> None:
        """Create the expiry row and trigger a scan of its day."""
        await self._call("PUT", f"/expiry/{notice.kind}/{notice.identity}", json=notice.row)
        await self._call("POST", f"/schedule/{notice.kind}/trigger")

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._root + path, **arguments) as response:
                if response.status >= 300:
                    raise DemoError(f"{method} {path} returned {response.status}: {(await response.text())[:500]}")
                return await response.json() if response.status != 204 else {}
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise DemoError(f"{method} {path} failed: {error or type(error).__name__}") from error
