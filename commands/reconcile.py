"""`loyalty-webhooks reconcile`: give what should still be delivered its workflows back, after a restore."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from commands.complaints import complain
from commands.configuration import read_settings
from commands.database import EXIT_FAILED, in_database
from domain.delivery.identity import backfill_workflow_id, event_workflow_id, recover_workflow_id
from storage.database import Database
from storage.deliveries.reconcile import KeptEvent, LookedAfter, RunningAct, kept_events, looked_after, running_acts
from storage.operations.bulk_actions import WindowKind
from temporal.client import temporal_client
from temporal.starts import Acting

AT_ONCE = 20
"""Calls to Temporal under way: enough to keep it busy, too few to hold up what is delivered meanwhile."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(reconcile)


def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what has lost its workflow, start nothing.")
    ] = False,
) -> None:
    """Start the workflows that PostgreSQL says are still to deliver something and Temporal does not know.

    For the day on which Temporal begins empty, or PostgreSQL comes back from a backup (docs/operating.md). Workflows
    that run are left alone, so it may be run at any time, beside a running stack, and again.

    Exit code 0: everything has its workflow. 1: Temporal or the database could not be reached; run it again.
    """
    settings = read_settings()

    async def work(database: Database) -> Reconciled:
        client = await temporal_client(lazy=False, payload_keys=settings.plain_payload_keys)
        return await _reconciled(database, client, settings.task_queue, dry_run=dry_run)

    try:
        found = in_database(work)
    except (RPCError, RuntimeError) as error:
        complain(f"Temporal cannot be reached, or failed: {error}. What was started stays so; run it again.")
        raise typer.Exit(EXIT_FAILED) from None
    _show(found, dry_run=dry_run)


class Reconciled:
    """What was found of each kind: how many have their workflow, how many had lost it."""

    def __init__(self, rest: LookedAfter) -> None:
        self.rest = rest
        self.events = [0, 0]
        self.acts = [0, 0]


async def _reconciled(database: Database, client: Client, task_queue: str, *, dry_run: bool) -> Reconciled:
    async with database.transaction() as connection:
        events, acts = await kept_events(connection), await running_acts(connection)
        found = Reconciled(await looked_after(connection))
    acting = Acting(client, task_queue)

    async def event(one: KeptEvent) -> None:
        ids = {*one.workflow_ids, event_workflow_id(one.store_code, one.event_id)}
        lost = not await _any_runs(client, ids)
        found.events[lost] += 1
        if lost and not dry_run:
            await acting.deliver(one.store_code, one.event_id, one.name)

    async def act(one: RunningAct) -> None:
        recovers = one.kind is WindowKind.RECOVER
        lost = not await _any_runs(client, [(recover_workflow_id if recovers else backfill_workflow_id)(one.id)])
        found.acts[lost] += 1
        if lost and not dry_run:
            await (acting.recover if recovers else acting.backfill)(one.id, one.subscription_id, one.url)

    await _all([*(lambda one=one: event(one) for one in events), *(lambda one=one: act(one) for one in acts)])
    return found


async def _all(works: list[Callable[[], Awaitable[None]]]) -> None:
    """Do them all, some at once, with a bar. The first failure ends it."""
    places = asyncio.Semaphore(AT_ONCE)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Looking", total=len(works))

        async def one(work: Callable[[], Awaitable[None]]) -> None:
            async with places:
                await work()
            progress.advance(bar)

        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(one(work))
        except* RPCError as failures:
            raise failures.exceptions[0] from None


async def _any_runs(client: Client, workflow_ids: Iterable[str]) -> bool:
    for workflow_id in workflow_ids:
        try:
            described = await client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            continue
        if described.status is WorkflowExecutionStatus.RUNNING:
            return True
    return False


def _show(found: Reconciled, *, dry_run: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("have their workflow", justify="right")
    table.add_column("had lost it" if dry_run else "started again", justify="right")
    table.add_row("events with deliveries to attempt", *(f"{count:,}" for count in found.events))
    table.add_row("recoveries and backfills", *(f"{count:,}" for count in found.acts))
    Console().print(table)
    typer.echo(
        f"Workers look after the rest by themselves: {found.rest.untaken_events:,} events not taken yet, "
        f"{found.rest.held_deliveries:,} deliveries held."
    )
