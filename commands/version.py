"""`loyalty-webhooks version`: version, schema revision and commit."""

import json
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from storage.revisions import head

COMMIT_FILE = Path(__file__).with_name("commit")
"""File with the commit, written by the Dockerfile. A checkout has none: git knows its commit."""


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the version, the schema revision it needs and, in an image, the commit it was built from."""
    commit = COMMIT_FILE.read_text().strip() or None if COMMIT_FILE.is_file() else None
    facts = {"version": installed_version("loyalty-webhooks"), "schema": head(), "commit": commit}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"loyalty-webhooks {facts['version']}")
    typer.echo(f"schema {facts['schema']}")
    if commit:
        typer.echo(f"commit {commit}")
