"""The ordinary user PostgreSQL runs under when we are root, which it refuses to be."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from local.errors import StackError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user and its main group."""

    name: str
    uid: int
    gid: int


def postgres_account(data: Path) -> Account | None:
    """Whom PostgreSQL runs as; none means as ourselves, who are not root.

    The owner of an existing database, so that one made by an ordinary user stays theirs; else `postgres` or `nobody`.
    Raises StackError when root finds no such user.
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
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it. Add one, "
        "or start as an ordinary user."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
