"""Files of a stack: its secrets, kept for later starts, and `stack.json`, which exists while it runs."""

import secrets
from pathlib import Path

from cryptography.fernet import Fernet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.data_directory import PRIVATE_FILE, DataDirectory, StackError, write_private

RANDOM_BYTES = 32
"""Length of a secret. 256 bits cannot be guessed."""


class _StackModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdminLogin(_StackModel):
    """Credentials of the administrator, in the format of `POST /api/admin/login_check`."""

    username: str
    password: str


class Secrets(_StackModel):
    """Secrets of the stack. Of `encryption_keys` and `jwt_secrets`, the first is used, the others remain accepted."""

    database_password: str = Field(min_length=1)
    encryption_keys: tuple[str, ...] = Field(min_length=1)
    jwt_secrets: tuple[str, ...] = Field(min_length=1)
    admin: AdminLogin
    api_key: str = Field(min_length=1)


class Pids(_StackModel):
    """Pids of the four components."""

    api: int
    worker: int
    temporal: int
    postgres: int


class Stack(_StackModel):
    """A running stack. `api` is the root URL without a path, `temporal` host:port, `database` a postgresql:// URL."""

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


def new_secrets() -> Secrets:
    """Generate random secrets that are safe in a URL, an environment variable and a header."""
    return Secrets(
        database_password=secrets.token_urlsafe(RANDOM_BYTES),
        encryption_keys=(Fernet.generate_key().decode(),),
        jwt_secrets=(secrets.token_urlsafe(RANDOM_BYTES),),
        admin=AdminLogin(username="admin", password=secrets.token_urlsafe(RANDOM_BYTES)),
        api_key=f"lw_{secrets.token_urlsafe(RANDOM_BYTES)}",
    )


def load_or_create(path: Path, database: Path) -> Secrets:
    """Read the secrets from the file, or create it at the first start.

    `database` is the directory of the database they belong to. Raises StackError if it exists without the file, because
    new secrets would not open it, and if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if database.exists():
            raise StackError(
                f"{path} is missing, but {database} exists and cannot be used without it. Restore the file from a "
                f"backup, or remove {path.parent} to start afresh."
            ) from None
        made = new_secrets()
        write_private(path, made.model_dump_json(indent=2) + "\n")
        return made
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{path} cannot be read: {error}.") from error
    if path.stat().st_mode & 0o077:
        path.chmod(PRIVATE_FILE)
    try:
        return Secrets.model_validate_json(text)
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, item["loc"])) or "not JSON" for item in error.errors()}))
        raise StackError(
            f"{path} is damaged ({wrong}). Restore it from a backup, or remove {path.parent} to start afresh."
        ) from None


def write_stack(path: Path, stack: Stack) -> None:
    """Replace the file atomically. Only its owner may read it."""
    write_private(path, stack.model_dump_json(indent=2) + "\n")


def read_stack(path: Path) -> Stack | None:
    """Return the stack in the file, or None if the file is missing or invalid."""
    try:
        return Stack.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def running_stack(data: DataDirectory) -> Stack | None:
    """Return the stack that runs on the data directory, or None. Ignores the remains of a killed one."""
    return read_stack(data.stack) if data.is_locked() else None
