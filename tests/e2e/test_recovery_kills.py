"""A recovery of thousands, paced at its limit and killed twice on the way, delivers each exactly once more.

RECOVERED_DELIVERIES and RECOVERED_PER_SECOND make it larger: `make recovery` has 20,000. An independent ledger decides:
what the receiver got, and when the processes were killed. The counts are printed.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from local.stack_file import Stack
from tests.bulk_actions import copy_exhausted
from tests.chaos.ledger import Arrival, Disturbance
from tests.chaos.verdict import surely_in_a_second, was_under_way
from tests.deadlines import eventually
from tests.receiver import Exchange, Receiver, response
from tests.stack import running_stack

DELIVERIES = int(os.environ.get("RECOVERED_DELIVERIES", "1500"))
PER_SECOND = int(os.environ.get("RECOVERED_PER_SECOND", "250"))

KILLS = (("worker", 1 / 3), ("temporal", 2 / 3))
"""What is killed when this part has been delivered."""

OVERSHOOT = 0.05
PATIENCE_SECONDS = DELIVERIES / PER_SECOND + 120
NAME = "CustomerUpdated"


class Accounts:
    """The receiver's own: which message came when and was answered when. Each is answered well."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    async def reply(self, exchange: Exchange) -> None:
        """One exchange."""
        request = exchange.request
        message_id = str(json.loads(request.body)["messageId"])
        try:
            await exchange.write(response(200))
        finally:
            now = time.monotonic()
            self.arrivals.append(
                Arrival(
                    request.target,
                    message_id,
                    message_id,
                    request.arrived_at,
                    now,
                    "ok",
                    200,
                    told=True,
                    arrived_after=request.arrived_after,
                )
            )

    def counts(self) -> Counter[str]:
        """Message id -> how often it came."""
        return Counter(one.message_id for one in self.arrivals)

    def unexplained(self, kills: Sequence[Disturbance]) -> list[str]:
        """Messages that came again although none of their earlier requests was under way at a kill."""
        by_message: dict[str, list[Arrival]] = {}
        for one in self.arrivals:
            by_message.setdefault(one.message_id, []).append(one)
        return [
            message_id
            for message_id, ones in by_message.items()
            for earlier in ones[:-1]
            if not any(was_under_way(earlier, kill) for kill in kills)
        ]


async def subscribe(http: httpx.AsyncClient, store: str, url: str) -> UUID:
    body = {"webhookSubscription": {"eventName": NAME, "url": url, "rateLimitPerSecond": PER_SECOND}}
    answer = await http.post(f"/api/{store}/webhook/subscription", json=body)
    assert answer.status_code == 200, answer.text
    return UUID(answer.json()["webhookSubscriptionId"])


async def recover(http: httpx.AsyncClient, path: str, **more: Any) -> Any:
    wanted = {"since": "2020-01-01T00:00:00Z", "statuses": ["exhausted"], **more}
    answer = await http.post(path, json={"recover": wanted})
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


async def kill(stack_path: Path, component: str) -> Disturbance:
    """SIGKILL; returns when another process has taken its place."""
    pid = getattr(Stack.model_validate_json(stack_path.read_text()).pids, component)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    over = time.monotonic()

    async def replaced() -> bool:
        return bool(getattr(Stack.model_validate_json(stack_path.read_text()).pids, component) != pid)

    await eventually(replaced, 30, f"{component} restarted")
    return Disturbance("kill", component, began, over)


@pytest.mark.stack
@pytest.mark.timeout(420)
async def test_a_recovery_killed_twice_delivers_each_exactly_once_more(tmp_path: Path) -> None:
    accounts = Accounts()
    with running_stack(tmp_path) as stack:
        headers = {"X-AUTH-TOKEN": stack.api_key}
        async with Receiver() as receiver, httpx.AsyncClient(base_url=stack.api, headers=headers, timeout=30) as http:
            receiver.otherwise = accounts.reply
            subscription = await subscribe(http, stack.store, receiver.url("/hook"))
            ids = await copy_exhausted(stack, subscription, NAME, receiver.url("/hook"), DELIVERIES)
            path = f"/api/{stack.store}/webhook/subscription/{subscription}/recover"
            assert (await recover(http, path, dryRun=True))["count"] == DELIVERIES
            began = time.monotonic()
            recover_id = (await recover(http, path))["recoverId"]
            kills = []
            for component, part in KILLS:

                async def so_far(wanted: float = part * DELIVERIES) -> bool:
                    return len(accounts.arrivals) >= wanted

                await eventually(so_far, PATIENCE_SECONDS, f"{part:.0%} delivered")
                kills.append(await kill(tmp_path / "stack" / "stack.json", component))

            async def finished() -> bool:
                answer = await http.get(f"/api/{stack.store}/webhook/recover/{recover_id}")
                return answer.status_code == 200 and answer.json()["status"] == "finished"

            await eventually(finished, PATIENCE_SECONDS, "the end of the recovery")
            seconds = time.monotonic() - began
            progress = (await http.get(f"/api/{stack.store}/webhook/recover/{recover_id}")).json()
    counts = accounts.counts()
    most = surely_in_a_second(one.span for one in accounts.arrivals)
    print(
        f"\nrecovered {DELIVERIES} deliveries at {PER_SECOND} a second at most in {seconds:.1f} s, killed "
        f"{' and '.join(component for component, _ in KILLS)}: {len(counts)} delivered, "
        f"{sum(counts.values()) - len(counts)} repeated, {len(set(ids) - counts.keys())} lost; "
        f"most in a second {most}"
    )
    assert counts.keys() == set(ids)
    assert accounts.unexplained(kills) == []
    assert (progress["count"], progress["opened"], progress["delivered"]) == (DELIVERIES,) * 3
    assert most <= PER_SECOND * (1 + OVERSHOOT)
    assert (progress["failedAgain"], progress["waiting"]) == (0, 0)
