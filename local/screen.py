"""What `up` says: lines that stay, and on a terminal a spinner that says what is being done."""

import contextlib
import os
import time

from rich.console import Console
from rich.status import Status
from rich.text import Text

from local.data_directory import DataDirectory
from local.stack_file import Stack

OPEN_HOUSE = (
    "This local stack delivers to http:// as well as https://, to every port, and to the loopback networks "
    "127.0.0.0/8 and ::1/128, but to no other private network."
)


class _Console(Console):
    """Goes quiet when its reader goes away, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())  # else Python complains at its end that it cannot flush
        os.close(null)


class Screen:
    """Output to a person or, without a terminal, to a file: then plain lines. A reader that went away is no error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _Console(highlight=False)
        self._status: Status | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it as it happens."""
        return self.console.is_terminal

    def say(self, line: str, style: str = "") -> None:
        """One line that stays. In a file it is one line; on a terminal it is broken between words."""
        self._print(Text(line, style), soft_wrap=not self.is_terminal)

    def note(self, line: str) -> None:
        """A line about something that happened, with the time of day."""
        self._print(Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", (line, "yellow")), soft_wrap=True)

    def show(self, text: Text) -> None:
        """Lines that stay, not broken, so that each address can be copied."""
        self._print(text, soft_wrap=True)

    def begin(self, doing: str) -> None:
        """Say what is being done until the next call or `end`."""
        if not self.is_terminal:
            self.say(f"{doing} …")
            return
        with contextlib.suppress(OSError):
            if self._status is None:
                self._status = self.console.status(f"{doing} …")
                self._status.start()
            self._status.update(f"{doing} …")

    def end(self) -> None:
        """Nothing is being done any more."""
        status, self._status = self._status, None
        if status is not None:
            with contextlib.suppress(OSError):
                status.stop()

    def _print(self, text: Text, soft_wrap: bool) -> None:
        with contextlib.suppress(OSError):  # a closed pipe or terminal must not stop the stack
            self.console.print(text, soft_wrap=soft_wrap)
            self.console.file.flush()


def addresses(stack: Stack, data: DataDirectory) -> Text:
    """Where everything is and how to get in, a line each; the secrets themselves stay in the file."""
    lines = (
        ("API", stack.api, f"store {stack.store}, key in the header X-AUTH-TOKEN"),
        ("API docs", stack.docs, ""),
        ("Panel", stack.panel, f"log in as {stack.admin.username}"),
        ("Temporal UI", stack.temporal_ui, "workflows and waiting retries"),
        ("Key, password", str(data.stack), ""),
        ("Logs", str(data.log("*")), ""),
    )
    width = max(len(value) for _, value, note in lines if note)
    shown = []
    for name, value, note in lines:
        line = Text.assemble("  ", (f"{name:<15}", "bold"), (value, "cyan"))
        if note:
            line.append(" " * (width - len(value) + 2) + note, "dim")
        shown.append(line)
    return Text("\n").join(shown)
