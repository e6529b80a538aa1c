"""`loyalty-webhooks version`: which code this is, and the schema it needs."""

import json
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from storage.migrate import head

COMMIT_FILE = Path(__file__).with_name("commit")
"""Written by the image's recipe; there is none in a checkout, where git tells."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("version")(version)


def version(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show the version, the schema revision it needs, and the commit it was built from, if that was built in."""
    facts = {"version": installed_version("loyalty-webhooks"), "schema": head(), "commit": built_from(COMMIT_FILE)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"loyalty-webhooks {facts['version']}")
    typer.echo(f"schema {facts['schema']}")
    if facts["commit"]:
        typer.echo(f"commit {facts['commit']}")


def built_from(file: Path) -> str | None:
    """The commit in the file; None when there is no file or nothing in it."""
    return file.read_text().strip() or None if file.is_file() else None
