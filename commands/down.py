"""`loyalty-webhooks down`: stop the stack of a data directory."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from commands.complaints import complain
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.screen import Screen
from local.up import stop_stack

EXIT_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("down")(down)


def down(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the stack.")] = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Stop the stack of a data directory in order and keep its data. Without a running stack, do nothing."""
    try:
        asyncio.run(stop_stack(DataDirectory.at(data_dir), Screen()))
    except StackError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
