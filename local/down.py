"""Stops a stack from outside and cleans up after a killed one."""

import asyncio
import signal
import time

from local.data_directory import DataDirectory
from local.errors import StackError
from local.processes import POLL_SECONDS, ProcessIdentity, send
from local.screen import Screen
from local.stack import clean_up

STOP_WITHIN_SECONDS = 15.0
"""Time for `up` to stop before it is killed. `up` itself takes at most 10 s."""

HOLDER_NAMED_WITHIN_SECONDS = 2.0


async def stop_stack(data: DataDirectory, screen: Screen) -> None:
    """Stop the `up` of the directory and wait for its end. Does nothing if none runs.

    Raises StackError if it does not stop or belongs to another user.
    """
    if not data.root.is_dir():
        screen.say(f"Nothing runs in {data.root}.")
        return
    if not data.is_locked():
        await _clean_up_unlocked(data, screen)
        return
    holder = await _holder(data)
    if holder is not None:
        screen.begin(f"Stopping the stack in {data.root}")
        await _stop(data, holder)
        screen.end()
    screen.say(f"Stopped the stack in {data.root}.")


async def _clean_up_unlocked(data: DataDirectory, screen: Screen) -> None:
    left = any(path.exists() for path in (data.lock, data.stack, data.processes))
    if left:
        with data.locked():
            await clean_up(data)
    screen.say(f"Nothing runs in {data.root}{', where a run was killed; cleaned up' if left else ''}.")


async def _holder(data: DataDirectory) -> int | None:
    """Wait for the pid of the `up`, which it may not have written yet. Return None if it has ended meanwhile."""
    deadline = time.monotonic() + HOLDER_NAMED_WITHIN_SECONDS
    while data.is_locked():
        holder = data.holder()
        if holder is not None:
            return holder
        if time.monotonic() > deadline:
            raise StackError(f"{data.lock} does not name the process that holds it. End the `up` that uses it by hand.")
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _stop(data: DataDirectory, holder: int) -> None:
    process = ProcessIdentity.of("up", holder)
    try:
        send(holder, signal.SIGTERM)
    except PermissionError as error:
        raise StackError(f"The stack in {data.root} (pid {holder}) belongs to another user.") from error
    if await _unlocked_within(data, STOP_WITHIN_SECONDS):
        await _gone_within(process, STOP_WITHIN_SECONDS)
        return
    send(holder, signal.SIGKILL)
    if not await _unlocked_within(data, STOP_WITHIN_SECONDS):
        raise StackError(f"The stack in {data.root} (pid {holder}) does not end.")
    with data.locked():
        await clean_up(data)


async def _gone_within(process: ProcessIdentity | None, seconds: float) -> None:
    """Wait for a process to end after it has released its lock."""
    deadline = time.monotonic() + seconds
    while process is not None and process.is_alive():
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _unlocked_within(data: DataDirectory, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while data.is_locked():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
