"""`loyalty-webhooks up`: run the whole stack on this machine until Ctrl-C."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from commands.complaints import complain
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.screen import Screen
from local.stack import PortChoices
from local.up import UpOptions, run, start_detached

EXIT_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("up")(up)


def up(
    data_dir: Annotated[
        Path, typer.Option(help="Data directory; each stack has its own, and several stacks may run side by side.")
    ] = DEFAULT_DATA_DIRECTORY,
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Start a receiver and send it one sample of each event.")
    ] = True,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0: a free port.", show_default="8080")
    ] = None,
    ui_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the Temporal UI; 0: a free port.", show_default="8233")
    ] = None,
    temporal_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of Temporal; 0: a free port.", show_default="7233")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the stack is healthy; stop it with `loyalty-webhooks down`.")
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start PostgreSQL, Temporal, the API and the worker on this machine, and keep them running until Ctrl-C.

    Without a port option, uses the port of the last start, else the default, or a free port if it is in use.

    Once the stack is healthy, stack.json in the data directory holds addresses and credentials.
    """
    ports = PortChoices(api=api_port, temporal_ui=ui_port, temporal=temporal_port)
    options = UpOptions(DataDirectory.at(data_dir), ports, demo, ready_fd)
    screen = Screen()
    try:
        if detach:
            start_detached(options, screen)
        else:
            asyncio.run(run(options, screen))
    except (StackError, OSError) as error:  # OSError: a full disk, for example; it names the file
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
