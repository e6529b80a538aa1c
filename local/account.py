"""User account of PostgreSQL, which refuses to run as root."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from local.errors import StackError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user and its primary group."""

    name: str
    uid: int
    gid: int


def postgres_account(data: Path) -> Account | None:
    """Return the user PostgreSQL runs as, or None for the current user, who is not root.

    The owner of an existing database, so that a database of an ordinary user keeps its owner; else `postgres` or
    `nobody`. Raises StackError if root finds none of these users.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as. Add one, "
        "or start as an ordinary user."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
