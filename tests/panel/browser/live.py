"""A store of a running stack, and what its platform and its integrator do there through the API."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.deadlines import eventually

PATIENCE_SECONDS = 30.0  # for an event to go all the way, on a machine that is busy with other tests


@dataclass
class LiveShop:
    """One store; `api` may do everything in every store."""

    code: str
    api: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        """GET below the store."""
        answer = await self.api.get(f"/api/{self.code}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None) -> Any:
        """POST below the store, accepted."""
        answer = await self.api.post(f"/api/{self.code}/{path}", json=body)
        assert answer.status_code in (200, 202), answer.text
        return answer.json() if answer.content else None

    async def subscribe(self, url: str, event_name: str = "CustomerUpdated", **fields: Any) -> str:
        """The id of a new subscription."""
        body = {"eventName": event_name, "url": url, **fields}
        return str((await self.post("webhook/subscription", {"webhookSubscription": body}))["webhookSubscriptionId"])

    async def emit(self, event_name: str = "CustomerUpdated", **data: Any) -> str:
        """The id of a new event, as the platform emits it."""
        return str((await self.post("event", {"event": {"eventName": event_name, "data": data}}))["eventId"])

    async def deliveries(self, event_id: str) -> list[Any]:
        """The event's deliveries, as the API lists them."""
        return list((await self.get(f"webhook/delivery?eventId={event_id}"))["items"])

    async def until(self, event_id: str, status: str, count: int = 1) -> list[str]:
        """Wait until the event has so many deliveries and all are in this status; their message ids."""

        async def reached() -> bool:
            return [item["status"] for item in await self.deliveries(event_id)] == [status] * count

        await eventually(reached, PATIENCE_SECONDS, f"{count} deliveries of {event_id} {status}")
        if status == "pending":  # the first attempt has its outcome, and counts

            async def scheduled() -> bool:
                return all(item["nextAttemptAt"] for item in await self.deliveries(event_id))

            await eventually(scheduled, PATIENCE_SECONDS, "a next attempt")
        return [item["messageId"] for item in await self.deliveries(event_id)]

    async def shared(self, event_id: str, *statuses: str) -> None:
        """Wait until the event has a delivery in each of these statuses, and no other."""

        async def reached() -> bool:
            return sorted(item["status"] for item in await self.deliveries(event_id)) == sorted(statuses)

        await eventually(reached, PATIENCE_SECONDS, f"deliveries of {event_id} {statuses}")
