"""What `up` says: lines that stay, and on a terminal a spinner that says what is being done."""

import contextlib
import time

from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from local.data_directory import DataDirectory
from local.stack_file import Stack

OPEN_HOUSE = (
    "This local stack delivers to http:// as well as https://, to every port, and to the loopback networks "
    "127.0.0.0/8 and ::1/128, but to no other private network."
)


class Screen:
    """Output to a person or, without a terminal, to a file: then plain lines. A reader that went away is no error."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
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

    def show(self, renderable: RenderableType) -> None:
        """Anything else that stays."""
        self._print(renderable)

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

    def _print(self, renderable: RenderableType, soft_wrap: bool = False) -> None:
        with contextlib.suppress(OSError):  # a closed pipe or terminal must not stop the stack
            self.console.print(renderable, soft_wrap=soft_wrap)
            self.console.file.flush()


def addresses(stack: Stack, data: DataDirectory) -> RenderableType:
    """Where everything is and how to get in; the secrets themselves stay in the file."""
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim")
    table.add_row("API", stack.api, f"header X-AUTH-TOKEN, store {stack.store}")
    table.add_row("API docs", stack.docs)
    table.add_row("Panel", stack.panel, f"log in as {stack.admin.username}")
    table.add_row("Temporal UI", stack.temporal_ui, "every event's workflow")
    table.add_row("Key, password", str(data.stack))
    table.add_row("Logs", str(data.log("*")))
    return table
