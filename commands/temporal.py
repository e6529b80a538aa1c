"""`loyalty-webhooks temporal …`: the namespace and its search attributes, and whose code runs workflows."""

import asyncio
from typing import Annotated

import typer
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from commands.complaints import complain
from commands.configuration import EXIT_USAGE, read_settings
from temporal.client import temporal_client
from temporal.namespace import SetupError, set_up
from temporal.versions import PromotionError, deployment_version
from temporal.versions import promote as promote_version

EXIT_FAILED = 1

temporal = typer.Typer(help="What this product needs in Temporal.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(temporal, name="temporal")


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


@temporal.command()
def promote(
    build_id: Annotated[
        str | None, typer.Argument(help="The version to make current.", show_default="WORKER_BUILD_ID")
    ] = None,
    percent: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Only so many of the workflows; the others stay where they are."),
    ] = None,
) -> None:
    """Make the workers of a version those that run workflows, new ones and the next task of open ones.

    Needed only where workers have a WORKER_BUILD_ID: they run nothing before. Run it when workers of the
    version are up; it waits for them, and for Temporal where that is busy, for a minute. To go back, promote the
    version before.
    """
    settings = read_settings()
    build = build_id or settings.worker_build_id
    if build is None:
        complain("Which version? Name it, or set WORKER_BUILD_ID.")
        raise typer.Exit(EXIT_USAGE)
    version = deployment_version(settings.task_queue, build)
    try:
        asyncio.run(_promote(version, percent))
    except (PromotionError, SetupError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
    share = "runs workflows now" if percent is None or percent >= 100 else f"runs {percent:g} % of workflows now"
    typer.echo(f"Version {build} {share}.")


async def _promote(version: WorkerDeploymentVersion, percent: float | None) -> None:
    await promote_version(await _client(), version, percent=percent)


async def _client() -> Client:
    """Raises SetupError when it cannot connect."""
    try:
        return await temporal_client(lazy=False, payload_keys=())  # no payload is read
    except (RuntimeError, OSError, ValueError) as error:  # no server there, no such certificate, a wrong profile
        raise SetupError(f"Temporal cannot be reached: {error}. Is TEMPORAL_ADDRESS right?") from error


async def _set_up(retention_days: int | None, dry_run: bool) -> None:
    await set_up(await _client(), retention_days=retention_days, dry_run=dry_run, say=typer.echo)
