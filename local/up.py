"""One run of `up`: lock the data directory, run the stack, stop it. `down` stops it from outside."""

import asyncio
import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from local.data_directory import DataDirectory, StackError, begin_log, open_log, tail
from local.demo import Demo
from local.ports import read_remembered
from local.processes import ProcessIdentity, send, until
from local.screen import OPEN_HOUSE, Screen, addresses
from local.stack import LocalStack, clean_up, own_command
from local.stack_file import read_stack

READY = b"ready\n"
READY_WITHIN_SECONDS = 180.0
"""Time until a detached stack must be healthy. The timeouts of `up` itself are shorter and report the cause."""

DEMO_WITHIN_SECONDS = 120.0
"""Time until a detached stack must have the demo's result. Without it, the stack is healthy all the same."""

STOP_WITHIN_SECONDS = 15.0
"""Time for `up` to stop before it is killed. `up` itself takes at most 10 s."""

KILLED_WITHIN_SECONDS = 15.0
"""Time for a killed `up` to be gone."""

HOLDER_NAMED_WITHIN_SECONDS = 2.0
IMPATIENT_AFTER_SECONDS = 1.0
"""Minimum time between two Ctrl-C that kill the stack. A single Ctrl-C may arrive twice, from the terminal and from a
program in between."""


@dataclass(frozen=True)
class UpOptions:
    """Options of `up`. With `--detach`, `ready_descriptor` receives READY when the stack is healthy, then the demo's
    result."""

    data: DataDirectory
    ports: Mapping[str, int | None]
    demo: bool
    ready_descriptor: int | None = None


async def run(options: UpOptions, screen: Screen) -> None:
    """Run the stack until a signal stops it. Raises StackError if it cannot start; then nothing of it is left."""
    if sys.platform != "linux":
        raise StackError("The local stack runs on Linux only; elsewhere, run `migrate`, `api` and `worker` separately.")
    options.data.create()
    with options.data.locked():
        screen.say(OPEN_HOUSE, style="yellow")
        stack, demo = LocalStack(options.data, options.ports, screen), Demo(screen)
        running = asyncio.create_task(_run_stack(stack, demo, options, screen))
        stopping = _cancel_by_signals(running, stack)
        try:
            await asyncio.wait([running])
            screen.end()
            if not (running.cancelled() or stopping.is_set()):
                running.result()  # raises the error of a failed start
        finally:
            screen.begin("Stopping")
            await stack.stop()
            await demo.stop()  # last, so that the worker could complete requests in flight
            screen.end()
        screen.say("Stopped; the data remain.")


async def _run_stack(stack: LocalStack, demo: Demo, options: UpOptions, screen: Screen) -> None:
    """Start the stack and keep it running until this task is cancelled."""
    began = time.monotonic()
    started = await stack.start()
    screen.end()
    screen.say(f"Ready after {time.monotonic() - began:.1f} s.", style="green")
    _tell(options, READY)
    receiver = stack.ports["receiver"] if options.demo else None
    if receiver is not None:
        _tell(options, (await demo.run(started, receiver)).encode())
    screen.show(addresses(started, options.data, receiver))
    screen.say("Stop with Ctrl-C." if screen.console.is_terminal else "Stop with SIGINT or `loyalty-webhooks down`.")
    await asyncio.Event().wait()


def _tell(options: UpOptions, message: bytes) -> None:
    if options.ready_descriptor is not None:
        with contextlib.suppress(OSError):  # the reader has ended
            os.write(options.ready_descriptor, message[: select.PIPE_BUF])


def _cancel_by_signals(running: asyncio.Task[None], stack: LocalStack) -> asyncio.Event:
    """Let SIGINT, SIGTERM and a closed terminal cancel the task and set the event that is returned. A later Ctrl-C
    kills every process of the stack."""
    loop, asked_at, stopping = asyncio.get_running_loop(), math.inf, asyncio.Event()

    def asked(number: signal.Signals) -> None:
        nonlocal asked_at
        running.cancel()  # each time: a cancellation may get lost in `asyncio.wait_for` of Python 3.11
        if not stopping.is_set():
            asked_at = time.monotonic()
            stopping.set()
        elif number == signal.SIGINT and time.monotonic() - asked_at > IMPATIENT_AFTER_SECONDS:
            stack.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            loop.add_signal_handler(number, asked, number)
    return stopping


def start_detached(options: UpOptions, screen: Screen) -> None:
    """Run `up` in its own session, so that it outlives this command, and return when the stack is healthy. Raises
    StackError with the end of its log if it does not start; then nothing of it is left."""
    data = options.data
    data.create()
    if data.is_locked():
        raise data.in_use()
    log = data.log("up")
    begin_log(log)
    screen.begin(f"Starting the stack in {data.root}")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as ready:
        with os.fdopen(writing, "wb") as told, os.fdopen(open_log(log), "ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                _command(options, told.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(told.fileno(),),
                start_new_session=True,
            )
        with _ended_if_we_fail(process):
            readable, _, _ = select.select([ready], [], [], READY_WITHIN_SECONDS)
            answer = ready.read(len(READY)) if readable else b""  # empty: it has ended
            screen.end()
            if answer != READY:
                process.wait(STOP_WITHIN_SECONDS)
                raise StackError(f"The stack did not start. {log} says:\n{tail(log)}")
        result = b""
        if options.demo and select.select([ready], [], [], DEMO_WITHIN_SECONDS)[0]:
            result = ready.read(select.PIPE_BUF)
    stack = read_stack(data.stack)
    if stack is None:
        raise StackError(f"The stack started and stopped again. {log} says:\n{tail(log)}")
    if options.demo:
        screen.say(result.decode(errors="replace") or f"The demo has not ended yet; its result will be in {log}.")
    screen.show(addresses(stack, data, read_remembered(data.ports).get("receiver") if options.demo else None))
    screen.say(f"Stop it with `loyalty-webhooks down --data-dir {data.root}`.")


def _command(options: UpOptions, ready_descriptor: int) -> tuple[str, ...]:
    arguments = ["up", "--data-dir", str(options.data.root), "--ready-fd", str(ready_descriptor)]
    arguments.append("--demo" if options.demo else "--no-demo")
    for option, port in options.ports.items():
        if port is not None:
            arguments += [option, str(port)]
    return own_command(*arguments)


@contextlib.contextmanager
def _ended_if_we_fail(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Stop the process if the block fails, on Ctrl-C too."""
    try:
        yield
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_SECONDS)
        process.kill()  # does nothing if it has ended
        raise


async def stop_stack(data: DataDirectory, screen: Screen) -> None:
    """Stop the `up` of the directory, wait for its end and clean up after a killed one. Does nothing if none runs.
    Raises StackError if it does not stop or belongs to another user."""
    if not data.root.is_dir():
        screen.say(f"Nothing runs in {data.root}.")
    elif not data.is_locked():
        left = any(path.exists() for path in (data.lock, data.stack, data.processes))
        if left:
            await _clean_up(data)
        screen.say(f"Nothing runs in {data.root}{', where a run was killed; cleaned up' if left else ''}.")
    else:
        # It may not have written its pid yet, or it may have ended meanwhile.
        if not await until(lambda: not data.is_locked() or data.holder() is not None, HOLDER_NAMED_WITHIN_SECONDS):
            raise StackError(f"{data.lock} does not name the process that holds it. End the `up` that uses it by hand.")
        holder = data.holder()
        if holder is not None:
            screen.begin(f"Stopping the stack in {data.root}")
            await _stop(data, holder)
            screen.end()
        screen.say(f"Stopped the stack in {data.root}.")


async def _stop(data: DataDirectory, holder: int) -> None:
    process = ProcessIdentity.of("up", holder)
    try:
        send(holder, signal.SIGTERM)
    except PermissionError as error:
        raise StackError(f"The stack in {data.root} (pid {holder}) belongs to another user.") from error
    if await until(lambda: not data.is_locked(), STOP_WITHIN_SECONDS):
        await until(lambda: process is None or not process.is_alive(), STOP_WITHIN_SECONDS)
        return
    send(holder, signal.SIGKILL)
    if not await until(lambda: not data.is_locked(), KILLED_WITHIN_SECONDS):
        raise StackError(f"The stack in {data.root} (pid {holder}) does not end.")
    await _clean_up(data)


async def _clean_up(data: DataDirectory) -> None:
    with data.locked():
        await clean_up(data)
