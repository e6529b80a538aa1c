"""How a command says that something is wrong."""

from rich.console import Console
from rich.text import Text


def complain(text: str) -> None:
    """On standard error, in red where colours are shown, lines not broken."""
    Console(stderr=True).print(Text(text, "bold red"), soft_wrap=True)
