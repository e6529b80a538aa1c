"""`loyalty-webhooks status`: health of the components and backlog of events."""

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

from commands.complaints import complain
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.health import COUNTED_EVENTS, Installation, InstallationHealth, ask, running_stack, stack_health
from settings import Settings
from storage.events.outbox import EventBacklog
from temporal.client import temporal_client

EXIT_UNHEALTHY = 1
TITLES = {"postgres": "PostgreSQL", "temporal": "Temporal", "api": "API", "worker": "Worker"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("status")(status)


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
        complain(str(error))
        raise typer.Exit(EXIT_UNHEALTHY) from None
    if as_json:
        typer.echo(health.as_json())
    else:
        _show(health)
    if not health.healthy:
        raise typer.Exit(EXIT_UNHEALTHY)


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
    if data_dir is not None or not _has_settings():
        raise StackError(
            f"No stack runs in {data.root}. Start one with `loyalty-webhooks up`, or name the services of another "
            "installation in the settings (DATABASE_URL and others)."
        )
    return await ask(_configured())


def _has_settings() -> bool:
    try:
        Settings()
    except ValidationError:
        return False
    return True


def _configured() -> Installation:
    settings = Settings()

    async def temporal() -> Client:
        return await temporal_client(lazy=True, payload_keys=settings.plain_payload_keys)

    port = settings.worker_health_port
    return Installation(
        api=f"http://{settings.api_host}:{settings.api_port}",
        worker=f"http://{settings.worker_health_host}:{port}" if port else None,
        database=settings.database_url.get_secret_value(),
        temporal=temporal,
    )


def _show(health: InstallationHealth) -> None:
    console = Console(highlight=False)
    local = any(component.pid is not None for component in health.components)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("Component", "State", "Address"):
        table.add_column(title)
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
