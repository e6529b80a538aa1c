"""Error messages of the commands."""

from rich.console import Console
from rich.text import Text


def complain(text: str) -> None:
    """Print an error message to standard error, in red on a colour terminal, without wrapping."""
    Console(stderr=True).print(Text(text, "bold red"), soft_wrap=True)
