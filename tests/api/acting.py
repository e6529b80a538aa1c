"""The API and a worker on one database and one Temporal, for tests of what a person does; each test has a store."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import manual_attempt_id
from storage.access.stores import create_store
from tests.api.running import RunningApi, running_api
from tests.deadlines import eventually
from tests.pipeline import Pipeline, pipeline

AT_ONCE_SECONDS = 15.0
"""OperatorActions take effect within so long: whatever else could bring their effect about comes after a minute."""

PATIENCE_SECONDS = 20.0
EVENT = "CustomerUpdated"


@dataclass
class ActionStarts:
    """One store, as somebody with every right sees it."""

    api: RunningApi
    running: Pipeline

    async def subscribe(self, url: str, **fields: Any) -> str:
        """A new subscription; retries after a minute unless the fields say otherwise."""
        body = {"eventName": EVENT, "url": url, "retrySchedule": [60], **fields}
        answer = await self.api.post("webhook/subscription", {"webhookSubscription": body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["webhookSubscriptionId"])

    async def emit(self, name: str = EVENT) -> str:
        """The id of a new event."""
        answer = await self.api.emit(name)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["eventId"])

    async def attempted_by_hand(self, message_id: str) -> None:
        """Wait until the activity of a manual attempt has ended: another one is refused until then."""
        await self.running.client.get_activity_handle(manual_attempt_id(UUID(message_id))).result()

    async def act(self, path: str, body: Any = None) -> httpx.Response:
        """POST below the store's webhooks."""
        return await self.api.client.post(self.api.url(f"webhook/{path}"), json=body)

    async def acted(self, path: str, body: Any = None) -> Any:
        """The same, done: its answer."""
        answer = await self.act(path, body)
        assert answer.status_code in (200, 202), answer.text
        return answer.json() if answer.content else None

    async def refused(self, path: str, body: Any = None) -> str:
        """The same, refused with a 409: its reason."""
        answer = await self.act(path, body)
        assert answer.status_code == 409, answer.text
        return str(answer.json()["message"])

    async def look(self, path: str) -> Any:
        """GET below the store's webhooks."""
        answer = await self.api.get(f"webhook/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def deliveries(self, event_id: str) -> list[dict[str, Any]]:
        """The event's deliveries."""
        answer = await self.api.get(f"event/{event_id}")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["deliveries"])

    async def until(self, event_id: str, status: str, attempts: int, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until the event's one delivery is so; its id."""

        async def reached() -> bool:
            found = await self.deliveries(event_id)
            return [(one["status"], one["attempts"]) for one in found] == [(status, attempts)]

        await eventually(reached, seconds, f"{status} after {attempts} attempts")
        if status == "pending":  # the first attempt's outcome is there, and so is who waits for the next
            await eventually(lambda: self._scheduled(event_id), PATIENCE_SECONDS, "a next attempt")
        return str((await self.deliveries(event_id))[0]["messageId"])

    async def _scheduled(self, event_id: str) -> bool:
        return (await self.deliveries(event_id))[0]["nextAttemptAt"] is not None

    async def ended(self, message_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a delivery is not pending; the delivery."""

        async def reached() -> bool:
            return (await self.look(f"delivery/{message_id}"))["status"] != "pending"

        await eventually(reached, seconds, "an end")
        return dict(await self.look(f"delivery/{message_id}"))

    async def audit(self) -> list[tuple[str, str, str]]:
        """(action, kind of object, its id) of the acts in the store, oldest first."""
        rows = await self.api.execute(
            "SELECT action, object_type, object_id FROM audit WHERE store_code = :store AND action <> 'create' "
            "ORDER BY id",
            store=self.api.store,
        )
        return [(row.action, row.object_type, row.object_id) for row in rows]

    async def explain(self, event_id: str, subscription_id: str | None = None) -> Any:
        """Why the event did not arrive."""
        only = "" if subscription_id is None else f"&webhookSubscriptionId={subscription_id}"
        return await self.look(f"explain?eventId={event_id}{only}")

    async def fail_before(self, subscription_id: str, event_id: str, count: int) -> None:
        """Deliveries that have ended without success, as an outage of days leaves them."""
        await self.api.execute(
            """
            INSERT INTO delivery (message_id, store_code, event_id, event_name, event_sequence, subscription_id,
                variant, url, status, reason, attempts, ended_at)
            SELECT gen_random_uuid(), event.store_code, event.event_id, event.name, event.sequence, subscription.id,
                'main', subscription.url, 'exhausted', 'schedule_used_up', 0, now()
            FROM event, subscription, generate_series(1, :count)
            WHERE event.event_id = :event_id AND subscription.id = :subscription_id
            """,
            count=count,
            event_id=UUID(event_id),
            subscription_id=UUID(subscription_id),
        )


@asynccontextmanager
async def acting_installation(
    database_url: str, temporal: WorkflowEnvironment, **overrides: Any
) -> AsyncIterator[ActionStarts]:
    """API and worker until the block ends."""
    breaker = {"breaker_failures": 3, "breaker_first_probe_seconds": 60, "breaker_longest_probe_seconds": 60}
    async with AsyncExitStack() as closing:
        with pytest.MonkeyPatch.context() as patch:  # ends at once: others make their Temporal clients meanwhile
            patch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
            work = pipeline(database_url, temporal.client, **breaker, **overrides)
            running = await closing.enter_async_context(work)
            same = {"task_queue": running.settings.task_queue, "encryption_keys": running.settings.encryption_keys}
            api = await closing.enter_async_context(running_api(database_url, **same))
        yield ActionStarts(api, running)


async def in_a_new_store(installed: ActionStarts) -> ActionStarts:
    """The same installation, seen from a store of its own."""
    code = f"s-{uuid4().hex}"
    async with installed.api.database.transaction() as connection:
        await create_store(connection, code, code)
    return ActionStarts(replace(installed.api, store=code), installed.running)
