"""`stack.json`: what runs, where, and how to get in; there while the stack is up."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from local.private_file import remove, write_private
from local.secrets_file import AdminLogin


class Pids(BaseModel):
    """Process ids of the four components."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: int
    worker: int
    temporal: int
    postgres: int


class Stack(BaseModel):
    """A running stack. `api` is the root, without a path; `temporal` is host:port; `database` a postgresql:// URL."""

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
    """Replace the file atomically; only its owner may read it."""
    write_private(path, json.dumps(stack.model_dump(), indent=2) + "\n")


def read_stack(path: Path) -> Stack | None:
    """The stack the file speaks of; none when there is no file, or it is not one of ours."""
    try:
        return Stack.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def remove_stack(path: Path) -> None:
    """Say that nothing runs."""
    remove(path)
