"""`loyalty-webhooks up|down|status`: run the stack of this machine, stop it, show the health of an installation."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from temporalio.client import Client

from commands.terminal import EXIT_FAILED, failed
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.health import COUNTED_EVENTS, InstallationHealth, ask, running_stack, stack_health
from local.screen import Screen
from local.stack import PortChoices
from local.up import UpOptions, run, start_detached, stop_stack
from settings import Settings
from storage.events.outbox import EventBacklog
from temporal.client import temporal_client

TITLES = {"postgres": "PostgreSQL", "temporal": "Temporal", "api": "API", "worker": "Worker"}


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
        raise failed(str(error)) from None


def down(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the stack.")] = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Stop the stack of a data directory in order and keep its data. Without a running stack, do nothing."""
    try:
        asyncio.run(stop_stack(DataDirectory.at(data_dir), Screen()))
    except StackError as error:
        raise failed(str(error)) from None


def status(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Data directory of a local stack.", show_default=str(DEFAULT_DATA_DIRECTORY)),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the health of the components and the backlog of a local stack, else of the services in the settings.

    Exit code 0: all components are ready. 1: a component is not ready, or nothing runs.
    """
    try:
        health = asyncio.run(_ask(data_dir))
    except StackError as error:
        raise failed(str(error)) from None
    if as_json:
        typer.echo(health.as_json())
    else:
        _show(health)
    if not health.healthy:
        raise typer.Exit(EXIT_FAILED)


async def _ask(data_dir: Path | None) -> InstallationHealth:
    """Check the local stack, else the services in the settings. Raises StackError if there is neither."""
    data = DataDirectory.at(data_dir or DEFAULT_DATA_DIRECTORY)
    try:
        stack = running_stack(data)
    except OSError as error:
        raise StackError(f"{data.stack} cannot be read: {error.strerror}.") from error
    if stack is not None:
        return await stack_health(data, stack)
    if data.root.is_dir() and data.is_locked():
        raise StackError(f"The stack in {data.root} is starting or stopping.")
    nothing = StackError(
        f"No stack runs in {data.root}. Start one with `loyalty-webhooks up`, or name the services of another "
        "installation in the settings (DATABASE_URL and others)."
    )
    if data_dir is not None:
        raise nothing
    try:
        settings = Settings()
    except ValidationError:
        raise nothing from None

    async def temporal() -> Client:
        return await temporal_client(lazy=True, payload_keys=settings.plain_payload_keys)

    port = settings.worker_health_port
    return await ask(
        api=f"http://{settings.api_host}:{settings.api_port}",
        worker=f"http://{settings.worker_health_host}:{port}" if port else None,
        database=settings.database_url.get_secret_value(),
        temporal=temporal,
    )


def _show(health: InstallationHealth) -> None:
    console = Console(highlight=False)
    local = any(component.pid is not None for component in health.components)
    table = Table("Component", "State", "Address", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("PID", "Up for") if local else ():
        table.add_column(title, justify="right")
    for component in health.components:
        state = Text("ready", "green") if component.ready else Text("not ready", "bold red")
        row: list[RenderableType] = [TITLES[component.name], state, component.address]
        if local:
            row += [str(component.pid), str(timedelta(seconds=int(component.uptime_seconds or 0)))]
        table.add_row(*row)
    console.print(table)
    for component in health.components:
        if component.reason:
            console.print(Text(f"{TITLES[component.name]}: {component.reason}", "red"), soft_wrap=True)
    console.print(_backlog_line(health.backlog))


def _backlog_line(backlog: EventBacklog | None) -> str:
    if backlog is None:
        return "Backlog: unknown."
    if not backlog.events:
        return "Backlog: empty, every accepted event is claimed."
    most = "at least " if backlog.events >= COUNTED_EVENTS else ""
    return (
        f"Backlog: {most}{backlog.events:,} unclaimed events, the oldest waiting for {backlog.oldest_seconds:,.1f} s."
    )
