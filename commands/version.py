"""`loyalty-webhooks version`: version, schema revision and commit."""

import json
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from storage.migrate import head

COMMIT_FILE = Path(__file__).with_name("commit")
"""File with the commit, written by the Dockerfile. A checkout has none: git knows its commit."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("version")(version)


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the version, the schema revision it needs and, in an image, the commit it was built from."""
    facts = {"version": installed_version("loyalty-webhooks"), "schema": head(), "commit": built_from(COMMIT_FILE)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"loyalty-webhooks {facts['version']}")
    typer.echo(f"schema {facts['schema']}")
    if facts["commit"]:
        typer.echo(f"commit {facts['commit']}")


def built_from(file: Path) -> str | None:
    """Return the commit in the file, or None if the file is missing or empty."""
    return file.read_text().strip() or None if file.is_file() else None
