"""One run of `up`: lock the data directory, run the stack, stop it."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import TypeVar

from local.data_directory import DataDirectory
from local.demo import Demo
from local.errors import StackError
from local.screen import OPEN_HOUSE, Screen, addresses
from local.stack import LocalStack, PortChoices

READY = b"ready\n"
IMPATIENT_AFTER_SECONDS = 1.0
"""Minimum time between two Ctrl-C that kill the stack. A single Ctrl-C may arrive twice, from the terminal and from a
program in between."""

T = TypeVar("T")


@dataclass(frozen=True)
class UpOptions:
    """Options of `up`. With `--detach`, `ready_descriptor` receives a message when the stack is healthy."""

    data: DataDirectory
    ports: PortChoices
    demo: bool
    ready_descriptor: int | None = None


async def run(options: UpOptions, screen: Screen) -> None:
    """Run the stack until a signal stops it.

    Raises StackError if it cannot start; then nothing of it is left.
    """
    if sys.platform != "linux":
        raise StackError("The local stack runs on Linux only; elsewhere, run `migrate`, `api` and `worker` separately.")
    options.data.create()
    with options.data.locked():
        screen.say(OPEN_HOUSE, style="yellow")
        stack, demo = LocalStack(options.data, options.ports, screen.note, screen.begin), Demo(screen)
        with _asked_to_stop(stack) as stop:
            try:
                await _run_stack(stack, demo, options, screen, stop)
            finally:
                screen.begin("Stopping")
                await stack.stop()
                await demo.stop()  # last, so that the worker could complete requests in flight
                screen.end()
        screen.say("Stopped; the data remain.")


async def _run_stack(stack: LocalStack, demo: Demo, options: UpOptions, screen: Screen, stop: asyncio.Event) -> None:
    began = time.monotonic()
    started = await _unless_stopped(stop, stack.start())
    screen.end()
    if started is None:
        return
    screen.say(f"Ready after {time.monotonic() - began:.1f} s.", style="green")
    _tell_ready(options.ready_descriptor)
    if options.demo:
        await _unless_stopped(stop, demo.run(started, stack.receiver_port))
    if not stop.is_set():
        screen.show(addresses(started, options.data))
        screen.say("Stop with Ctrl-C." if screen.is_terminal else "Stop with SIGINT or `loyalty-webhooks down`.")
    await stop.wait()


@contextlib.contextmanager
def _asked_to_stop(stack: LocalStack) -> Iterator[asyncio.Event]:
    """Yield an event that SIGINT, SIGTERM and a closed terminal set. A later Ctrl-C kills every process."""
    stop, loop, asked_at = asyncio.Event(), asyncio.get_running_loop(), time.monotonic()

    def asked(number: signal.Signals) -> None:
        nonlocal asked_at
        if not stop.is_set():
            asked_at = time.monotonic()
            stop.set()
        elif number == signal.SIGINT and time.monotonic() - asked_at > IMPATIENT_AFTER_SECONDS:
            stack.kill()

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores SIGHUP
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, asked, number)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _tell_ready(descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):  # the reader has ended
            os.write(descriptor, READY)
            os.close(descriptor)


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """Return the result of `work`, or cancel it and return None if the stop event comes first."""
    task, asked = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return None
        return task.result()
    finally:
        asked.cancel()
