"""`stack.json`: addresses, credentials and pids of a running stack. Exists while the stack runs."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from local.private_file import remove, write_private
from local.secrets_file import AdminLogin


class Pids(BaseModel):
    """Pids of the four components."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: int
    worker: int
    temporal: int
    postgres: int


class Stack(BaseModel):
    """A running stack. `api` is the root URL without a path, `temporal` host:port, `database` a postgresql:// URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: str
    panel: str
    docs: str
    temporal_ui: str
    temporal: str
    namespace: str
    database: str
    admin: AdminLogin
    api_key: str
    store: str
    pids: Pids


def write_stack(path: Path, stack: Stack) -> None:
    """Replace the file atomically. Only its owner may read it."""
    write_private(path, json.dumps(stack.model_dump(), indent=2) + "\n")


def read_stack(path: Path) -> Stack | None:
    """Return the stack in the file, or None if the file is missing or invalid."""
    try:
        return Stack.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def remove_stack(path: Path) -> None:
    """Remove the file after the stack has stopped."""
    remove(path)
