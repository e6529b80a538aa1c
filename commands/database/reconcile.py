"""`loyalty-webhooks reconcile`: restart the activities and workflows of open deliveries after a restore."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from uuid import UUID

import typer
from temporalio.client import (
    ActivityExecutionDescription,
    ActivityExecutionStatus,
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError

from commands.configuration import Installation, with_installation
from commands.database.connection import in_database
from commands.terminal import BarOrLines, counted, failed, say, show_records
from domain.delivery.identity import bulk_action_workflow_id
from storage.database import Database
from storage.deliveries.retries import (
    OwnedDelivery,
    PendingWork,
    RunningBulkAction,
    owned_deliveries,
    pending_work,
    running_bulk_actions,
)
from storage.deliveries.transitions import own_retries
from temporal.client import found_or_none, temporal_client
from temporal.codec import data_converter
from temporal.retries import Retries
from temporal.starts import ActionStarts

Figures = tuple[int, int]
"""Executions in Temporal: running, lost."""

CONCURRENT_CALLS = 20
"""Maximum concurrent calls to Temporal. Enough to keep it busy, too few to delay deliveries of a running stack."""

START_BATCH = 500
"""Deliveries whose activities get their ids in one transaction."""


@with_installation
def reconcile(
    installation: Installation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count lost activities and workflows, start nothing.")
    ] = False,
) -> None:
    """Start the activities and workflows that PostgreSQL expects and Temporal does not have.

    For a Temporal server that starts empty, or a PostgreSQL restored from a backup (docs/operating.md). Workers do the
    same by themselves for deliveries that are overdue by a minute. Running activities and workflows are left alone, so
    the command may be run at any time, beside a running stack, and again.

    Exit code 0: every open delivery has its activity or workflow. 1: Temporal or the database could not be reached, or
    Temporal refused some; run it again.
    """
    settings, stack = installation.settings, installation.stack

    async def work(database: Database) -> tuple[Figures, Figures, PendingWork]:
        try:
            payload_keys = settings.plain_payload_keys
            if stack is None:
                client = await temporal_client(lazy=False, payload_keys=payload_keys)
            else:
                converter = data_converter(payload_keys)
                client = await Client.connect(stack.temporal, namespace=stack.namespace, data_converter=converter)
            return await _reconciled(database, client, settings.task_queue, dry_run=dry_run)
        except (RPCError, RuntimeError) as error:
            message = f"Temporal cannot be reached, or failed: {error}. Started activities stay; run it again."
            raise failed(message) from None

    deliveries, actions, rest = in_database(installation, work)
    lost = "lost" if dry_run else "startedAgain"
    kinds = (("deliveries to attempt", *deliveries), ("recoveries and backfills", *actions))
    show_records([{"executions": name, "running": running, lost: number} for name, running, number in kinds])
    say(
        f"Workers handle the rest by themselves: {counted(rest.unmatched_events, 'unmatched event')}, "
        f"{counted(rest.held_deliveries, 'held delivery', 'held deliveries')}."
    )


async def _reconciled(
    database: Database, client: Client, task_queue: str, *, dry_run: bool
) -> tuple[Figures, Figures, PendingWork]:
    """Return the figures of deliveries and of bulk actions, and the work that the workers find by themselves."""
    async with database.transaction() as connection:
        deliveries, actions = await owned_deliveries(connection), await running_bulk_actions(connection)
        rest = await pending_work(connection)
    starts, retries = ActionStarts(client, task_queue), Retries(client, task_queue)
    lost_deliveries: list[UUID] = []
    lost_actions = refused = 0

    async def delivery(one: OwnedDelivery) -> None:
        if not await _is_owned(client, one):
            lost_deliveries.append(one.message_id)

    async def action(one: RunningBulkAction) -> None:
        nonlocal lost_actions
        if await _runs(client.get_workflow_handle(bulk_action_workflow_id(one.kind, one.id)).describe()):
            return
        lost_actions += 1
        if not dry_run:
            await starts.bulk_action(one.kind, one.id, one.subscription_id, one.url)

    await _all([*(partial(delivery, one) for one in deliveries), *(partial(action, one) for one in actions)])
    for at in range(0, 0 if dry_run else len(lost_deliveries), START_BATCH):
        waiting = await database.run(own_retries, lost_deliveries[at : at + START_BATCH])
        refused += await retries.start_all(waiting)
    if refused:
        raise failed(f"Temporal refused {counted(refused, 'activity', 'activities')}; the log says why. Run it again.")
    lost = len(lost_deliveries)
    return (len(deliveries) - lost, lost), (len(actions) - lost_actions, lost_actions), rest


async def _is_owned(client: Client, delivery: OwnedDelivery) -> bool:
    """Return True if the delivery's retry activity runs or, before a retry, the workflow of its first attempt."""
    if delivery.retry_id is not None:
        return await _runs(client.get_activity_handle(delivery.retry_id).describe())
    return delivery.workflow_id is not None and await _runs(client.get_workflow_handle(delivery.workflow_id).describe())


async def _runs(description: Awaitable[ActivityExecutionDescription | WorkflowExecutionDescription]) -> bool:
    """Return True if what Temporal describes is running, False if Temporal does not know it."""
    described = await found_or_none(description)
    running = (ActivityExecutionStatus.RUNNING, WorkflowExecutionStatus.RUNNING)
    return described is not None and described.status in running


async def _all(works: list[Callable[[], Awaitable[None]]]) -> None:
    """Run all of `works` concurrently with a progress bar. Raises the first RPCError."""
    limit = asyncio.Semaphore(CONCURRENT_CALLS)
    with BarOrLines() as progress:
        progress.begin("Checking", len(works))

        async def one(work: Callable[[], Awaitable[None]]) -> None:
            async with limit:
                await work()
            progress.step()

        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(one(work))
        except* RPCError as failures:
            raise failures.exceptions[0] from None
