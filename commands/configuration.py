"""The settings of a command, or what is wrong with them said to the person who set them."""

import typer
from pydantic import ValidationError

from commands.complaints import complain
from settings import Settings

EXIT_USAGE = 2


def read_settings() -> Settings:
    """Settings from the environment and `.env`. Ends the command, naming each variable and never a value."""
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
