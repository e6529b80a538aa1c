"""The whole stack for tests: `loyalty-webhooks up` as real processes, on free ports, without the demo.

with running_stack(tmp_path) as stack:
    httpx.get(stack.api + "/readyz")
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.data_directory import DataDirectory
from local.processes import launch
from local.stack import own_command
from local.stack_file import Stack, read_stack
from tests.house import ROOT

START_SECONDS = 90.0  # everything from nothing on a machine that is busy with other tests
STOP_SECONDS = 60.0
FREE_PORTS = ("--api-port", "0", "--ui-port", "0", "--temporal-port", "0")


@dataclass
class Up:
    """An `up` in the foreground of nobody's terminal."""

    data: DataDirectory
    process: "subprocess.Popen[bytes]"
    output_file: Path
    started: float
    """Seconds since 1970: an older stack.json is one that a killed `up` left."""

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.output_file.read_text(errors="replace")

    def stack(self) -> Stack:
        """stack.json as it is now; waits for it, and fails with what `up` said when it does not come."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            stack = read_stack(self.data.stack)
            if stack is not None and self.data.stack.stat().st_mtime >= self.started:
                return stack
            assert self.process.poll() is None, f"`up` ended:\n{self.output}"
            assert time.monotonic() < deadline, f"not up within {START_SECONDS} s:\n{self.output}"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Ask it to stop and wait; how many seconds that took. Fails when it does not end well."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not stopped within {STOP_SECONDS} s:\n{self.output}") from None
        assert status == 0, f"`up` ended with {status}:\n{self.output}"
        return time.monotonic() - began


@contextmanager
def up(
    data_dir: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    cwd: Path = ROOT,
) -> Iterator[Up]:
    """`up` on the data directory with these arguments, stopped at the end. It ends with the test run at the latest.

    `environment` is added to ours; `prefix` is a program to run it by.
    """
    output_file = data_dir.with_name(f"{data_dir.name}.output")
    started = time.time()
    descriptor = os.open(output_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        process = launch(
            (*prefix, *own_command("up", "--data-dir", str(data_dir), *arguments)),
            {**os.environ, **(environment or {})},
            directory=cwd,
            output=descriptor,
            death_signal=signal.SIGTERM,
        )
    finally:
        os.close(descriptor)
    running = Up(DataDirectory.at(data_dir), process, output_file, started)
    try:
        yield running
        if process.poll() is None:
            running.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def running_stack(tmp_path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A stack on a directory of its own below `tmp_path`, healthy, without the demo; stopped at the end.

    `arguments` are further ones of `up`, `environment` holds settings of API and worker.
    """
    arguments = ("--no-demo", *FREE_PORTS, *arguments)
    with up(tmp_path / "stack", *arguments, environment=environment) as running:
        yield running.stack()
