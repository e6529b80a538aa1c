"""`loyalty-webhooks up|down|status`: run the stack of this machine, stop it, show the health of an installation."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from commands.configuration import Installation, with_installation
from commands.terminal import EXIT_FAILED, counted, failed, json_wanted, show_json, show_table
from domain.wire.excerpts import printable
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory, StackError
from local.health import COUNTED_EVENTS, InstallationHealth, ask, stack_health
from local.screen import Screen
from local.up import UpOptions, run, start_detached, stop_stack
from storage.deliveries.retries import OVERDUE_COUNTED
from storage.events.outbox import EventBacklog
from temporal.client import temporal_client

TITLES = {"postgres": "PostgreSQL", "temporal": "Temporal", "api": "API", "worker": "Worker"}


def up(
    data_dir: Annotated[
        Path, typer.Option(help="Data directory; each stack has its own, and several stacks may run side by side.")
    ] = DEFAULT_DATA_DIRECTORY,
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Start a receiver, send it samples of 17 events.")
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
    ports = {"--api-port": api_port, "--ui-port": ui_port, "--temporal-port": temporal_port}
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


@with_installation
def status(installation: Installation) -> None:
    """Show the health of an installation: its components, every live worker, the backlog of events that no worker has
    claimed, and the number of overdue deliveries: those that should have been attempted more than a minute ago.

    Exit code 0: all components are ready. 1: a component is not ready. 2: nothing runs.
    """
    health = asyncio.run(_ask(installation))
    if json_wanted():
        show_json(health.facts())
    else:
        _show(health)
    if not health.healthy:
        raise typer.Exit(EXIT_FAILED)


async def _ask(installation: Installation) -> InstallationHealth:
    settings, stack, data = installation.settings, installation.stack, installation.data
    if stack is not None and data is not None:
        return await stack_health(data, stack)
    port = settings.worker_health_port
    return await ask(
        api=f"http://{settings.api_host}:{settings.api_port}",
        worker=f"http://{settings.worker_health_host}:{port}" if port else None,
        database=settings.database_url.get_secret_value(),
        temporal=lambda: temporal_client(lazy=True, payload_keys=settings.plain_payload_keys),
    )


def _show(health: InstallationHealth) -> None:
    console = Console(highlight=False)
    rows = []
    for one in health.components:
        up_for = one.uptime_seconds and str(timedelta(seconds=int(one.uptime_seconds)))
        pid, state = one.pid and str(one.pid), "ready" if one.ready else "not ready"
        rows.append((TITLES[one.name], state, one.address, pid, up_for))
    show_table(("Component", "State", "Address", "PID", "Up for"), *rows)
    for component in health.components:
        if component.reason:
            console.print(Text(f"{TITLES[component.name]}: {printable(component.reason)}", "red"), soft_wrap=True)
    if health.workers is not None:
        names = (Text(printable(f"{one.host} {one.pid}")) for one in health.workers)
        console.print(f"Live workers: {len(health.workers)}.", *names)
    console.print(_backlog_line(health.backlog))
    console.print(_overdue_line(health.overdue))


def _backlog_line(backlog: EventBacklog | None) -> str:
    if backlog is None:
        return "Backlog: unknown."
    if not backlog.events:
        return "Backlog: empty, every accepted event is matched."
    most = "at least " if backlog.events >= COUNTED_EVENTS else ""
    events = counted(backlog.events, "unmatched event")
    return f"Backlog: {most}{events}, the oldest waiting for {backlog.oldest_seconds:,.1f} s."


def _overdue_line(overdue: int | None) -> str:
    if not overdue:
        return f"Overdue deliveries: {'unknown' if overdue is None else 'none'}."
    most = "at least " if overdue >= OVERDUE_COUNTED else ""
    return f"Overdue deliveries: {most}{overdue:,}. `loyalty-webhooks reconcile --dry-run` counts the lost ones."
