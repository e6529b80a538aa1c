"""`loyalty-webhooks temporal setup`: the namespace and its search attributes."""

import asyncio
from typing import Annotated

import typer

from commands.complaints import complain
from workflows.client import temporal_client
from workflows.namespace import SetupError, set_up

EXIT_FAILED = 1

temporal = typer.Typer(help="What this product needs in Temporal.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(temporal, name="temporal")


@temporal.callback()
def _keep_the_command_names() -> None:
    """Without a callback, a group with one command would not take that command's name."""


@temporal.command()
def setup(
    retention_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Days for which Temporal keeps the history of what has ended.",
            show_default="3 for a new namespace; one that exists keeps its own",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Make the namespace TEMPORAL_NAMESPACE and the search attributes workflows are found by, where they are missing.

    Safe to run again. The connection is configured by Temporal's own variables (TEMPORAL_ADDRESS and others). In
    Temporal Cloud, where it may not, it says which commands of its tools do it.

    Exit code 0: all is there. 1: something is missing and could not be made; what is said on standard error.
    """
    try:
        asyncio.run(_set_up(retention_days, dry_run))
    except SetupError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None


async def _set_up(retention_days: int | None, dry_run: bool) -> None:
    try:
        client = await temporal_client(lazy=False, payload_keys=())  # it asks for no payload
    except (RuntimeError, OSError, ValueError) as error:  # no server there, no such certificate, a wrong profile
        raise SetupError(f"Temporal cannot be reached: {error}. Is TEMPORAL_ADDRESS right?") from error
    await set_up(client, retention_days=retention_days, dry_run=dry_run, say=typer.echo)
