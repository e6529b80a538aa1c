"""A terminal of a test's own, with a program in its foreground: keys are pressed, and the screen is read."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ROWS, COLUMNS = 24, 100
CTRL_C = b"\x03"
CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE_SECONDS = 90.0


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
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}\n{self.shown}"
            if select.select([self._keyboard], [], [], 0.1)[0]:
                try:
                    self._shown += os.read(self._keyboard, 65536)
                except OSError:  # nobody has it open any more
                    self.process.wait(PATIENCE_SECONDS)

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
