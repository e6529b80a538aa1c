"""Settings of a command, with messages for invalid variables."""

import typer
from pydantic import ValidationError

from commands.terminal import EXIT_USAGE, complain
from settings import Settings


def read_settings() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises typer.Exit for invalid settings, after a message that names each variable and shows no value.
    """
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            variable = ".".join(map(str, problem["loc"])).upper()
            missing = problem["type"] == "missing"
            message = "is not set" if missing else problem["msg"].removeprefix("Value error, ")
            complain(f"{variable}: {message}" if variable else message)
        complain("docs/settings.md lists every variable; a file .env in this directory is read too.")
        raise typer.Exit(EXIT_USAGE) from None
