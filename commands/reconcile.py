"""`loyalty-webhooks reconcile`: restart the activities and workflows of open deliveries after a restore."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated
from uuid import UUID

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from temporalio.client import ActivityExecutionStatus, Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from commands.complaints import complain
from commands.configuration import read_settings
from commands.database import EXIT_FAILED, in_database
from domain.delivery.identity import backfill_workflow_id, recover_workflow_id
from storage.database import Database
from storage.deliveries.reconcile import LookedAfter, RunningBulkAction, looked_after, running_bulk_actions
from storage.deliveries.retries import OwnedDelivery, owned_deliveries
from storage.deliveries.transitions import own_retries
from storage.operations.bulk_actions import BulkActionKind
from temporal.client import temporal_client
from temporal.retries import Retries
from temporal.starts import ActionStarts

CONCURRENT_CALLS = 20
"""Maximum concurrent calls to Temporal. Enough to keep it busy, too few to delay deliveries of a running stack."""

START_BATCH = 500
"""Deliveries whose activities get their ids in one transaction."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(reconcile)


def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count lost activities and workflows, start nothing.")
    ] = False,
) -> None:
    """Start the activities and workflows that PostgreSQL expects and Temporal does not have.

    For a Temporal server that starts empty, or a PostgreSQL restored from a backup (docs/operating.md). Workers do the
    same by themselves for deliveries that are overdue by a minute. Running activities and workflows are left alone, so
    the command may be run at any time, beside a running stack, and again.

    Exit code 0: every open delivery has its activity or workflow. 1: Temporal or the database could not be reached;
    run it again.
    """
    settings = read_settings()

    async def work(database: Database) -> Reconciled:
        client = await temporal_client(lazy=False, payload_keys=settings.plain_payload_keys)
        return await _reconciled(database, client, settings.task_queue, dry_run=dry_run)

    try:
        found = in_database(work)
    except (RPCError, RuntimeError) as error:
        complain(f"Temporal cannot be reached, or failed: {error}. Started activities stay; run it again.")
        raise typer.Exit(EXIT_FAILED) from None
    _show(found, dry_run=dry_run)


class Reconciled:
    """Counts by kind: [running, lost]."""

    def __init__(self, rest: LookedAfter) -> None:
        self.rest = rest
        self.deliveries = [0, 0]
        self.actions = [0, 0]


async def _reconciled(database: Database, client: Client, task_queue: str, *, dry_run: bool) -> Reconciled:
    async with database.transaction() as connection:
        deliveries, actions = await owned_deliveries(connection), await running_bulk_actions(connection)
        found = Reconciled(await looked_after(connection))
    starts, retries = ActionStarts(client, task_queue), Retries(client, task_queue)
    lost_deliveries: list[UUID] = []

    async def delivery(one: OwnedDelivery) -> None:
        lost = not await _is_owned(client, one)
        found.deliveries[lost] += 1
        if lost:
            lost_deliveries.append(one.message_id)

    async def action(one: RunningBulkAction) -> None:
        recovers = one.kind is BulkActionKind.RECOVER
        lost = not await _any_runs(client, [(recover_workflow_id if recovers else backfill_workflow_id)(one.id)])
        found.actions[lost] += 1
        if lost and not dry_run:
            await (starts.recover if recovers else starts.backfill)(one.id, one.subscription_id, one.url)

    await _all(
        [
            *(lambda one=one: delivery(one) for one in deliveries),
            *(lambda one=one: action(one) for one in actions),
        ]
    )
    for at in range(0, 0 if dry_run else len(lost_deliveries), START_BATCH):
        async with database.transaction() as connection:
            waiting = await own_retries(connection, lost_deliveries[at : at + START_BATCH])
        await retries.start_all(waiting)
    return found


async def _is_owned(client: Client, delivery: OwnedDelivery) -> bool:
    """Return True if the delivery's retry activity runs or, before a retry, the workflow of its first attempt."""
    if delivery.retry_id is None:
        return delivery.workflow_id is not None and await _any_runs(client, [delivery.workflow_id])
    try:
        described = await client.get_activity_handle(delivery.retry_id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return described.status is ActivityExecutionStatus.RUNNING


async def _all(works: list[Callable[[], Awaitable[None]]]) -> None:
    """Run all of `works` concurrently with a progress bar. Raises the first RPCError."""
    limit = asyncio.Semaphore(CONCURRENT_CALLS)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Checking", total=len(works))

        async def one(work: Callable[[], Awaitable[None]]) -> None:
            async with limit:
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
    table.add_column("running", justify="right")
    table.add_column("lost" if dry_run else "started again", justify="right")
    table.add_row("deliveries to attempt", *(f"{count:,}" for count in found.deliveries))
    table.add_row("recoveries and backfills", *(f"{count:,}" for count in found.actions))
    Console().print(table)
    typer.echo(
        f"Workers handle the rest by themselves: {found.rest.untaken_events:,} unclaimed events, "
        f"{found.rest.held_deliveries:,} held deliveries."
    )
