"""Output of `up`: permanent lines and, on a terminal, a spinner with the current step."""

import contextlib
import os
import time

from rich.console import Console
from rich.status import Status
from rich.text import Text

from domain.wire.excerpts import printable
from local.data_directory import DataDirectory
from local.ports import HOST
from local.stack_file import Stack

OPEN_HOUSE = (
    "This local stack delivers to http:// as well as https://, to every port, and to the loopback networks "
    "127.0.0.0/8 and ::1/128, but to no other private network."
)


class _Console(Console):
    """Console that goes quiet on a broken pipe, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())  # otherwise Python prints an error when it flushes at exit
        os.close(null)


class Screen:
    """Output to a terminal, or plain lines to a file. A broken pipe is not an error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _Console(highlight=False)
        self._status: Status | None = None

    def say(self, line: str, style: str = "") -> None:
        """Print a permanent line. Wraps between words on a terminal and stays one line in a file."""
        self.show(Text(line, style), wrap=self.console.is_terminal)

    def note(self, line: str) -> None:
        """Print a permanent line about an occurrence, with the time of day."""
        self.show(Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", (printable(line), "yellow")))

    def show(self, text: Text, *, wrap: bool = False) -> None:
        """Print permanent lines, by default without wrapping, so that each address can be copied."""
        with contextlib.suppress(OSError):  # a closed pipe or terminal must not stop the stack
            self.console.print(text, soft_wrap=not wrap)
            self.console.file.flush()

    def begin(self, doing: str) -> None:
        """Show the current step until the next call or `end`."""
        if not self.console.is_terminal:
            self.say(f"{doing} …")
            return
        with contextlib.suppress(OSError):
            if self._status is None:
                self._status = self.console.status(f"{doing} …")
                self._status.start()
            self._status.update(f"{doing} …")

    def end(self) -> None:
        """End the display of the current step."""
        status, self._status = self._status, None
        if status is not None:
            with contextlib.suppress(OSError):
                status.stop()


def addresses(stack: Stack, data: DataDirectory, receiver: int | None) -> Text:
    """List addresses and logins, one per line. The secrets themselves stay in the file. `receiver`: the demo's port."""
    demo = ("Demo receiver", f"http://{HOST}:{receiver}", "subscribed to its 17 events; `up` prints its requests")
    lines = (
        ("API", stack.api, f"store {stack.store}, key in the header X-AUTH-TOKEN"),
        ("API docs", stack.docs, ""),
        ("Panel", stack.panel, f"log in as {stack.admin.username}"),
        ("Temporal UI", stack.temporal_ui, "workflows and waiting retries"),
        *([] if receiver is None else [demo]),
        ("Key, password", str(data.stack), ""),
        ("Logs", str(data.log("*")), ""),
    )
    width = max(len(value) for _, value, note in lines if note)
    return Text("\n").join(
        Text.assemble(
            "  ", (f"{name:<15}", "bold"), (value, "cyan"), (note and f"{'':{width - len(value) + 2}}{note}", "dim")
        )
        for name, value, note in lines
    )
