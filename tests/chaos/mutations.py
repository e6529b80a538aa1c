"""The product with a defect, put in from outside: the harness has to find what such a one loses.

    python -m tests.chaos.mutations MUTATION COMMAND

runs a command of the product (`api`, `worker`) with it. The product itself knows no such switch.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import api.events.intake
import cli
from domain.delivery.verdict import Verdict, VerdictOutcome
from relay.relay import Relay
from sending.dispatcher import Dispatcher
from sending.http.client import SendResult

WINDOW_SECONDS = 0.5
"""How long what is not safe yet is promised; a kill within it loses."""

_under_way: set["asyncio.Task[Any]"] = set()


def acknowledge_before_commit() -> None:
    """The API says 202, and then begins to store the event."""
    accept, accept_all = api.events.intake.Intake.accept, api.events.intake.Intake.accept_all

    async def accepted(self: api.events.intake.Intake, event: Any) -> bool:
        _later(lambda: accept(self, event))
        return False

    async def all_accepted(self: api.events.intake.Intake, events: Sequence[Any]) -> list[bool]:
        _later(lambda: accept_all(self, events))
        return [False] * len(events)

    api.events.intake.Intake.accept = accepted  # type: ignore[method-assign]
    api.events.intake.Intake.accept_all = all_accepted  # type: ignore[method-assign]


def forget_lapsed_claims() -> None:
    """The relay takes its time between claim and start, and nobody looks after the claims of one that died."""
    start = Relay._start

    async def started_late(self: Relay, *arguments: Any) -> None:
        await asyncio.sleep(WINDOW_SECONDS)
        await start(self, *arguments)

    async def watch_nothing(_relay: Relay) -> None:
        await asyncio.Event().wait()

    Relay._start = started_late  # type: ignore[assignment,method-assign]
    Relay._claim_lapsed = watch_nothing  # type: ignore[assignment,method-assign]


def record_before_answer() -> None:
    """The worker writes that a delivery has arrived, and then begins its request."""
    exchange = Dispatcher._exchange
    arrived = SendResult(200, None, None, None, "", "", 0)

    async def recorded_first(self: Dispatcher, delivery: Any, queue: Any) -> Any:
        await self._record(delivery, time.monotonic(), arrived, None, Verdict(VerdictOutcome.DELIVERED))
        await asyncio.sleep(WINDOW_SECONDS)
        return await exchange(self, delivery, queue)

    Dispatcher._exchange = recorded_first  # type: ignore[method-assign]


def ignore_lease() -> None:
    """The worker sends what another worker is sending."""

    def taken(self: Dispatcher, delivery: Any) -> bool:
        return self.under_way(delivery.message_id) is not None

    Dispatcher.taken = taken  # type: ignore[method-assign]


def _later(store: Callable[[], Any]) -> None:
    async def late() -> None:
        await asyncio.sleep(WINDOW_SECONDS)
        await store()

    task = asyncio.create_task(late())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


MUTATIONS: dict[str, Callable[[], None]] = {
    "acknowledge-before-commit": acknowledge_before_commit,
    "forget-lapsed-claims": forget_lapsed_claims,
    "ignore-lease": ignore_lease,
    "record-before-answer": record_before_answer,
}

if __name__ == "__main__":
    mutation, command = sys.argv[1:]
    MUTATIONS[mutation]()
    sys.argv = ["loyalty-webhooks", command]
    cli.main()
