"""`loyalty-webhooks version`: version, schema revision and commit."""

from importlib.metadata import version as installed_version

from commands.terminal import JsonOption, show
from storage.revisions import head
from telemetry import build


def version(as_json: JsonOption = False) -> None:
    """Show the version, the schema revision it needs and, in an image, the commit it was built from."""
    commit = build.commit()
    facts = {"version": installed_version("loyalty-webhooks"), "schema": head(), "commit": commit}
    lines = [
        f"loyalty-webhooks {facts['version']}",
        f"schema {facts['schema']}",
        *([f"commit {commit}"] if commit else ()),
    ]
    show("\n".join(lines), facts)
