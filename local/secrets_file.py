"""What must be the same at every start and known to nobody else: `secrets.json` in the data directory."""

import json
import secrets
from pathlib import Path

from cryptography.fernet import Fernet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.errors import StackError
from local.private_file import PRIVATE_FILE, write_private

RANDOM_BYTES = 32  # 256 bits: nothing to guess


class AdminLogin(BaseModel):
    """The administrator's credentials, in the form `POST /api/admin/login_check` takes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str
    password: str


class Secrets(BaseModel):
    """The stack's secrets. `encryption_keys` and `jwt_secrets`: the first is used, the others are still understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_password: str = Field(min_length=1)
    encryption_keys: tuple[str, ...] = Field(min_length=1)
    jwt_secrets: tuple[str, ...] = Field(min_length=1)
    admin: AdminLogin
    api_key: str = Field(min_length=1)


def new_secrets() -> Secrets:
    """Random secrets, safe inside a URL, an environment variable and a header."""
    return Secrets(
        database_password=secrets.token_urlsafe(RANDOM_BYTES),
        encryption_keys=(Fernet.generate_key().decode(),),
        jwt_secrets=(secrets.token_urlsafe(RANDOM_BYTES),),
        admin=AdminLogin(username="admin", password=secrets.token_urlsafe(RANDOM_BYTES)),
        api_key=f"lw_{secrets.token_urlsafe(RANDOM_BYTES)}",
    )


def load_or_create(path: Path, database: Path) -> Secrets:
    """The secrets in the file, made at the first start.

    `database` is the directory of the database they belong to: when it is there and the file is not, new secrets would
    not open it. Raises StackError then, and when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if database.exists():
            raise StackError(
                f"{path} is missing, but {database} is there and does not open without it. Put the file back from a "
                f"backup, or remove {path.parent} to start from nothing."
            ) from None
        made = new_secrets()
        write_private(path, json.dumps(made.model_dump(), indent=2) + "\n")
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
            f"{path} is damaged ({wrong}). Put it back from a backup, or remove {path.parent} to start from nothing."
        ) from None
