"""Does to the stack what the timetable says, and writes down when it did."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.chaos.ledger import NETWORK_KINDS, Disturbance
from tests.chaos.stack import ChaosStack
from tests.chaos.timetable import Action


async def execute(stack: ChaosStack, actions: Sequence[Action], began_at: float) -> list[Disturbance]:
    """All actions at their instants; what was done, by the clock of the ledger. One that takes long delays no other."""
    acting = []
    async with asyncio.TaskGroup() as group:
        for action in actions:
            await asyncio.sleep(max(0.0, began_at + action.at - time.monotonic()))
            acting.append(group.create_task(_act(stack, action)))
    return [task.result() for task in acting]


async def _act(stack: ChaosStack, action: Action) -> Disturbance:
    at = time.monotonic()
    name, _ = await stack.ends(action.target)
    detail = name if action.target == "worker" else ""
    match action.kind:
        case "kill":
            [pid] = await stack.signal(action.target, signal.SIGKILL)
            at = time.monotonic()
            await stack.replaced(action.target, pid)
            return Disturbance(action.kind, action.target, at, at, detail, time.monotonic() - at)
        case "stop":
            await _stop(stack, action)
            detail += f", {action.seconds:.1f} s"
        case "drop":
            detail = f"{await stack.drop_connections()} connections"
        case "roll":
            detail += f", ended within {await stack.workers.roll():.1f} s"
        case "jump":
            stack.clock.jump(stack.clock.settable, action.seconds)
            detail = f"{stack.clock.settable}, by {action.seconds:+.0f} s"
        case "fill":
            failed_before = stack.failed_writes(action.target)
            async with stack.disks[action.target].full():
                await asyncio.sleep(action.seconds)
            await stack.serving(action.target)
            failed = stack.failed_writes(action.target) - failed_before
            detail = f"{action.seconds:.1f} s, {failed} failed writes logged"
            return Disturbance(action.kind, action.target, at, time.monotonic(), detail, failed_writes=failed)
        case kind if kind in NETWORK_KINDS:
            detail = await _disturb_network(stack, action)
    return Disturbance(action.kind, action.target, at, time.monotonic(), detail.removeprefix(", "))


async def _disturb_network(stack: ChaosStack, action: Action) -> str:
    assert stack.network is not None
    name, other = await stack.ends(action.target)
    if action.kind == "reset":
        return f"{name}, {await stack.network.reset(name, other)} connections"
    async with stack.network.disturbed(action.kind, name, other):
        await asyncio.sleep(action.seconds)
    return f"{name}, {action.seconds:.1f} s"


async def _stop(stack: ChaosStack, action: Action) -> None:
    pids = await stack.signal(action.target, signal.SIGSTOP)
    try:
        await asyncio.sleep(action.seconds)
    finally:
        for pid in pids:
            _continue(pid)


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):  # a stopped process may have been killed by its supervisor
        os.kill(pid, signal.SIGCONT)
