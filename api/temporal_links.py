"""Links to pages of the Temporal Web UI."""

import asyncio
from urllib.parse import quote

from temporalio.service import RPCError, RPCStatusCode

from api.resources import Resources

KNOWN_SECONDS = 0.1
"""Timeout of a look-up in Temporal, which takes milliseconds. A page is not delayed further for a link."""


def workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """Return the page of a workflow, or None without a workflow or a Web UI (setting `temporal_ui_url`)."""
    return None if workflow_id is None else _page(resources, "workflows", workflow_id)


def delivery_url(resources: Resources, *, workflow_id: str | None, retry_id: str | None) -> str | None:
    """Return the page of the activity that retries a delivery, else of its workflow."""
    if retry_id is None:
        return workflow_url(resources, workflow_id)
    root, query = _page(resources, "activities"), f'ActivityId="{retry_id}"'
    return None if root is None else f"{root}?query={quote(query, safe='')}"


def schedule_url(resources: Resources, schedule_id: str) -> str | None:
    """Return the page of a schedule, or None without a Web UI."""
    return _page(resources, "schedules", schedule_id)


def _page(resources: Resources, section: str, identity: str = "") -> str | None:
    root = resources.settings.temporal_ui_url
    if root is None:
        return None
    namespace = quote(resources.temporal.namespace, safe="")
    page = f"{root.rstrip('/')}/namespaces/{namespace}/{section}"
    return f"{page}/{quote(identity, safe='')}" if identity else page


async def existing_workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """Return the page of a workflow, or None if its run is past Temporal's retention.

    The page is returned unchecked if Temporal does not answer within KNOWN_SECONDS.
    """
    url = workflow_url(resources, workflow_id)
    if url is None or workflow_id is None:
        return None
    try:
        async with asyncio.timeout(KNOWN_SECONDS):
            await resources.temporal.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        return None if error.status is RPCStatusCode.NOT_FOUND else url
    except (TimeoutError, RuntimeError):  # RuntimeError: the first connection of a lazy client failed
        return url
    return url


async def existing_delivery_url(resources: Resources, *, workflow_id: str | None, retry_id: str | None) -> str | None:
    """Return the page of the activity that retries a delivery, else of its workflow, if Temporal still retains it."""
    root = _page(resources, "activities")
    if retry_id is None or root is None:
        return await existing_workflow_url(resources, workflow_id)
    try:
        async with asyncio.timeout(KNOWN_SECONDS):
            described = await resources.temporal.get_activity_handle(retry_id).describe()
    except (RPCError, TimeoutError, RuntimeError):  # RuntimeError: the first connection of a lazy client failed
        return delivery_url(resources, workflow_id=workflow_id, retry_id=retry_id)
    return f"{root}/{quote(retry_id, safe='')}/{described.activity_run_id}/details"
