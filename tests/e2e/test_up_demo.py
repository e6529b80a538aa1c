"""The demo: everything that is emitted arrives, a person sees it, and a second start makes nothing twice."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from domain.events.catalogue import CATALOGUE
from local.stack import own_command
from local.stack_file import Stack, read_stack
from tests.deadlines import eventually
from tests.stack import FREE_PORTS, up

pytestmark = pytest.mark.stack

SEED_EVENTS = [name for name, event_type in CATALOGUE.items() if event_type.seed]
SUBSCRIPTIONS = 2 * len(SEED_EVENTS)
DELIVERIES = SUBSCRIPTIONS + 1  # an automatic change of level makes two legacy webhooks
DEMO_SECONDS = 90.0
ROWS, COLUMNS = 24, 100
CTRL_C = b"\x03"
CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal with a program in its foreground."""

    def __init__(self, *command: str) -> None:
        self._keyboard, screen = pty.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(screen)
        self._shown = b""

    def close(self) -> None:
        """Close the window."""
        os.close(self._keyboard)

    @property
    def shown(self) -> str:
        """Everything shown so far, one after the other."""
        return CONTROL_CODES.sub("", self._shown.decode(errors="replace"))

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._keyboard, key)

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Look at the screen until the condition holds."""
        deadline = time.monotonic() + DEMO_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"not within {DEMO_SECONDS} s: {what}\n{self.shown}"
            if select.select([self._keyboard], [], [], 0.1)[0]:
                try:
                    self._shown += os.read(self._keyboard, 65536)
                except OSError:  # nobody has it open any more
                    self.process.wait(DEMO_SECONDS)

    def until_shown(self, text: str) -> None:
        """Look at the screen until the text is there."""
        self.until(lambda: text in self.shown, f"{text!r} is shown")


@contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    """The program in a terminal of its own, which is closed at the end."""
    opened = Terminal(*command)
    try:
        yield opened
    finally:
        opened.close()  # and the program gets SIGHUP, if it runs still
        try:
            opened.process.wait(15)
        except subprocess.TimeoutExpired:
            opened.process.kill()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "stack"


def get(stack: Stack, path: str, **query: str) -> dict[str, list[dict[str, object]]]:
    answer = httpx.get(
        f"{stack.api}/api/{stack.store}{path}",
        params=query,
        headers={"X-AUTH-TOKEN": stack.api_key},
        trust_env=False,
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    content: dict[str, list[dict[str, object]]] = answer.json()
    return content


def test_at_a_terminal_the_table_fills_up_and_ctrl_c_stops_everything(data_dir: Path) -> None:
    with terminal(*own_command("up", "--data-dir", str(data_dir), *FREE_PORTS)) as shown:
        shown.until_shown("Stop with Ctrl-C.")
        stack = read_stack(data_dir / "stack.json")
        assert stack is not None
        assert f"{DELIVERIES} of {DELIVERIES}" in shown.shown
        for url in (stack.api, stack.docs, stack.panel, stack.temporal_ui):
            assert url in shown.shown

        def all_recorded() -> bool:
            page = get(stack, "/webhook/delivery", status="delivered", _itemsOnPage="50")
            return len(page["items"]) == DELIVERIES

        shown.until(all_recorded, "the outcome of each delivery is recorded")
        schedules = get(stack, "/schedule")["items"]
        assert [(one["kind"], one["state"]) for one in schedules] == [
            (kind, "active") for kind in ("points", "levels", "coupons")
        ]
        for schedule in schedules:
            assert schedule["lastScan"]["origin"] == "manual"  # type: ignore[index]
            assert schedule["lastScan"]["emitted"] == 1  # type: ignore[index]
            assert str(schedule["temporalUrl"]).startswith(f"{stack.temporal_ui}/namespaces/default/schedules/")
        shown.press(CTRL_C)
        shown.until(lambda: shown.process.poll() is not None, "Ctrl-C ended it")
        assert shown.process.returncode == 0
        assert "Stopped" in shown.shown
    assert not (data_dir / "stack.json").exists()
    assert not (data_dir / "up.lock").exists()


async def test_without_a_terminal_it_says_plain_lines_and_makes_nothing_twice(data_dir: Path) -> None:
    with up(data_dir, *FREE_PORTS) as running:
        stack = running.stack()

        async def complete() -> bool:
            return f"{DELIVERIES} of {DELIVERIES} deliveries of {len(SEED_EVENTS)} events arrived." in running.output

        await eventually(complete, DEMO_SECONDS, "the demo's deliveries have arrived")
        assert "\x1b" not in running.output
        for event_name in SEED_EVENTS:
            assert re.search(rf"^ +\d+ ms  {event_name}, modern$", running.output, re.MULTILINE)
            assert re.search(rf"^ +\d+ ms  {event_name}, legacy$", running.output, re.MULTILINE)
        assert get(stack, "/webhook/subscription")["total"]["all"] == SUBSCRIPTIONS  # type: ignore[call-overload]

        emitted = subprocess.run(
            own_command("emit", "CustomerUpdated", "--sample", "--data-dir", str(data_dir)), check=False, timeout=60
        )
        assert emitted.returncode == 0

        async def shown_too() -> bool:
            return "received CustomerUpdated, modern" in running.output

        await eventually(shown_too, 30, "what a person emits is shown as it arrives")
        assert running.stop(signal.SIGINT) < 10
