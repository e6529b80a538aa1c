"""`loyalty-webhooks temporal …`: set up the namespace, and promote worker versions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from temporalio.client import Client

from commands.configuration import read_settings
from commands.terminal import EXIT_USAGE, failed
from temporal.client import temporal_client
from temporal.namespace import DEFAULT_RETENTION_DAYS, SetupError, set_up
from temporal.versions import PromotionError, deployment_version
from temporal.versions import promote as promote_version

temporal = typer.Typer(help="Namespace, search attributes and worker versions in Temporal.", no_args_is_help=True)


@temporal.command()
def setup(
    retention_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Retention of closed workflows in days.",
            show_default=f"{DEFAULT_RETENTION_DAYS} for a new namespace; an existing one keeps its own",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes and make none.")] = False,
) -> None:
    """Create the namespace TEMPORAL_NAMESPACE and the search attributes, if they are missing.

    Safe to repeat. Temporal's own variables configure the connection (TEMPORAL_ADDRESS and others). In Temporal Cloud,
    which does not permit it, prints the equivalent commands of its tools.

    Exit code 0: everything exists. 1: something is missing and could not be created; standard error names it.
    """

    _run(lambda client: set_up(client, retention_days=retention_days, dry_run=dry_run, say=typer.echo))


@temporal.command()
def promote(
    build_id: Annotated[
        str | None, typer.Argument(help="Version to make current.", show_default="WORKER_BUILD_ID")
    ] = None,
    percent: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Share of the workflows in percent; the others stay on their version."),
    ] = None,
) -> None:
    """Make a version current: its workers run new workflows and the next task of open ones.

    Needed only for workers with a WORKER_BUILD_ID: until then they run nothing. Start workers of the version first;
    it waits up to two minutes for them, and for a busy Temporal. To roll back, promote the previous version.
    """
    settings = read_settings()
    build = build_id or settings.worker_build_id
    if build is None:
        raise failed("No version given: pass it, or set WORKER_BUILD_ID.", EXIT_USAGE)
    version = deployment_version(settings.task_queue, build)

    _run(lambda client: promote_version(client, version, percent=percent))
    share = "runs workflows now" if percent is None or percent >= 100 else f"runs {percent:g} % of workflows now"
    typer.echo(f"Version {build} {share}.")


def _run(work: Callable[[Client], Awaitable[None]]) -> None:
    """Run `work` with a client. Raises typer.Exit if it fails, or Temporal cannot be reached."""

    async def connected() -> None:
        try:
            client = await temporal_client(lazy=False, payload_keys=())  # these commands read no payload
        except (RuntimeError, OSError, ValueError) as error:  # no server, a missing certificate, an invalid profile
            raise SetupError(f"Temporal cannot be reached: {error}. Is TEMPORAL_ADDRESS right?") from error
        await work(client)

    try:
        asyncio.run(connected())
    except (PromotionError, SetupError) as error:
        raise failed(str(error)) from None
