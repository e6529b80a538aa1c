"""A password for a command: typed twice unseen, or read from a pipe. Never an argument, which others could see."""

import sys

import typer

from commands.complaints import complain
from commands.configuration import EXIT_USAGE
from storage.access.passwords import password_problem


def ask_password() -> str:
    """The password; one that will not do is said and ends the command."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    problem = password_problem(password)
    if problem is not None:
        complain(f"This password will not do: {problem}.")
        raise typer.Exit(EXIT_USAGE)
    return password
