"""Settings of a command, from the environment or from the local stack, with messages for invalid variables."""

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from commands.local_stack import find_stack, passing
from commands.terminal import EXIT_USAGE, complain, failed
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.stack_file import Stack, load_or_create
from settings import Settings

OPEN_FILES = 65_536
"""Soft limit of open files to ask for. Hard limits of a billion, as of some container engines, would silence the alert
on a process that runs out, and macOS refuses an infinite one."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files, often 1,024, as far as allowed, and return it.

    A burst to many receivers exceeds the usual limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # refused by the system: the process runs with what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True)
class Installation:
    """Settings of the installation that a command works on. `stack`: the local stack in `data` that it is, or None."""

    settings: Settings
    stack: Stack | None = None
    data: DataDirectory | None = None


def read_settings(**known: Any) -> Settings:
    """Return the settings of the environment and `.env`, but for the known ones.

    Raises typer.Exit for invalid settings, after a message that names each variable and shows no value.
    """
    try:
        return Settings(**known)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            variable = ".".join(map(str, problem["loc"])).upper()
            missing = problem["type"] == "missing"
            message = "is not set" if missing else problem["msg"].removeprefix("Value error, ")
            complain(f"{variable}: {message}" if variable else message)
        complain("docs/settings.md lists every variable; a file .env in this directory is read too.")
        raise typer.Exit(EXIT_USAGE) from None


def find_installation(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Data directory of a local stack to work on.",
            show_default=f"the database of DATABASE_URL, else {DEFAULT_DATA_DIRECTORY}",
        ),
    ] = None,
) -> Installation:
    """Return the local stack of `data_dir`, else the installation of the settings, else the default local stack.

    Raises typer.BadParameter without any, and typer.Exit for invalid settings.
    """
    if data_dir is None and _names_database():
        return Installation(read_settings())
    data = DataDirectory.at(data_dir or DEFAULT_DATA_DIRECTORY)
    stack = find_stack(data, "set DATABASE_URL and ENCRYPTION_KEYS of another installation (docs/settings.md)")
    try:
        secrets = load_or_create(data.secrets, data.postgres)
    except StackError as error:
        raise failed(str(error)) from None
    settings = read_settings(database_url=stack.database, encryption_keys=secrets.encryption_keys)
    return Installation(settings, stack, data)


def _names_database() -> bool:
    if "SECRETS_DIR" in os.environ:
        return True
    try:
        Settings()
    except ValidationError as error:
        return ("database_url", "missing") not in {(*problem["loc"], problem["type"]) for problem in error.errors()}
    return True


with_installation = passing(find_installation)
