"""`up --detach`: run `up` in its own session, so that it outlives the command."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator

from local.application import own_command
from local.errors import StackError
from local.log_files import begin_log, open_log, tail
from local.screen import Screen, addresses
from local.stack_file import read_stack
from local.up import READY, UpOptions

LOG_NAME = "up"
READY_WITHIN_SECONDS = 180.0
"""Time until the stack must be healthy. The timeouts of `up` itself are shorter and report the cause."""

STOP_WITHIN_SECONDS = 15.0


def start_detached(options: UpOptions, screen: Screen) -> None:
    """Start the stack and return when it is healthy.

    Raises StackError with the end of its log if it does not start; then nothing of it is left.
    """
    data = options.data
    data.create()
    if data.is_locked():
        raise data.in_use()
    log = data.log(LOG_NAME)
    begin_log(log)
    screen.begin(f"Starting the stack in {data.root}")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as ready:
        process = _spawn(options, log_descriptor=open_log(log), ready_descriptor=writing)
        with _ended_if_we_fail(process):
            answer = _wait(ready.fileno())
            screen.end()
            if answer != READY:
                process.wait(STOP_WITHIN_SECONDS)
                raise StackError(f"The stack did not start. {log} says:\n{tail(log)}")
    stack = read_stack(data.stack)
    if stack is None:
        raise StackError(f"The stack started and stopped again. {log} says:\n{tail(log)}")
    screen.show(addresses(stack, data))
    screen.say(f"Stop it with `loyalty-webhooks down --data-dir {data.root}`.")


def _spawn(options: UpOptions, log_descriptor: int, ready_descriptor: int) -> "subprocess.Popen[bytes]":
    arguments = ["up", "--data-dir", str(options.data.root), "--ready-fd", str(ready_descriptor)]
    arguments.append("--demo" if options.demo else "--no-demo")
    ports = options.ports
    for option, port in (
        ("--api-port", ports.api),
        ("--ui-port", ports.temporal_ui),
        ("--temporal-port", ports.temporal),
    ):
        if port is not None:
            arguments += [option, str(port)]
    try:
        return subprocess.Popen(  # noqa: S603 - our own command
            own_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=log_descriptor,
            stderr=log_descriptor,
            pass_fds=(ready_descriptor,),
            start_new_session=True,
        )
    finally:
        os.close(log_descriptor)
        os.close(ready_descriptor)


def _wait(descriptor: int) -> bytes:
    """Return the message of the started `up`; empty if it ended or sent none in time."""
    readable, _, _ = select.select([descriptor], [], [], READY_WITHIN_SECONDS)
    return os.read(descriptor, len(READY)) if readable else b""


@contextlib.contextmanager
def _ended_if_we_fail(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Stop the process if the block fails, on Ctrl-C too."""
    try:
        yield
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN_SECONDS)
        if process.poll() is None:
            process.kill()
        raise
