"""`loyalty-webhooks version`: version, schema revision and commit."""

from importlib.metadata import version as installed_version
from pathlib import Path

from commands.terminal import JsonOption, show
from storage.revisions import head

COMMIT_FILE = Path(__file__).with_name("commit")
"""File with the commit, written by the Dockerfile. A checkout has none: git knows its commit."""


def version(as_json: JsonOption = False) -> None:
    """Show the version, the schema revision it needs and, in an image, the commit it was built from."""
    commit = COMMIT_FILE.read_text().strip() or None if COMMIT_FILE.is_file() else None
    facts = {"version": installed_version("loyalty-webhooks"), "schema": head(), "commit": commit}
    lines = [
        f"loyalty-webhooks {facts['version']}",
        f"schema {facts['schema']}",
        *([f"commit {commit}"] if commit else ()),
    ]
    show("\n".join(lines), facts)
