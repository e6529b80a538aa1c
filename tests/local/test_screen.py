"""What `up` says reaches a person, and its running does not depend on anybody reading it."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from local.data_directory import DataDirectory
from local.screen import OPEN_HOUSE, Screen, addresses
from tests.local.test_stack_file import STACK

TALK_ON = """
import sys
from local.screen import Screen
screen = Screen()
screen.say("first")
sys.stdin.readline()
for _ in range(1000):
    screen.say("nobody reads this")
    screen.begin("nor this")
screen.end()
print("still here", file=sys.stderr)
"""


def test_a_reader_that_goes_away_does_not_end_the_program() -> None:
    talking = subprocess.Popen(
        [sys.executable, "-c", TALK_ON],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert talking.stdout is not None
    assert talking.stdout.readline() == "first\n"
    talking.stdout.close()
    talking.stdout = None
    _, errors = talking.communicate("\n", timeout=60)
    assert (talking.returncode, errors) == (0, "still here\n")


def test_in_a_file_what_is_said_is_one_plain_line() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, width=40))
    screen.say(OPEN_HOUSE, style="yellow")
    screen.note("[bold]not markup[/bold] " + "long " * 30)
    lines = written.getvalue().splitlines()
    assert lines[0] == OPEN_HOUSE
    assert "[bold]not markup[/bold] long long" in lines[1]
    assert len(lines) == 2


def test_addresses_are_not_broken_and_hold_no_secret(tmp_path: Path) -> None:
    written = io.StringIO()
    data = DataDirectory(tmp_path / ("long" * 30))
    Screen(Console(file=written, width=40)).show(addresses(STACK, data, 20512))
    assert str(data.stack) in written.getvalue()
    for address in ("http://127.0.0.1:20512", STACK.api, STACK.docs, STACK.panel, STACK.temporal_ui):
        assert f" {address}" in written.getvalue()
    assert "secret" not in written.getvalue()
