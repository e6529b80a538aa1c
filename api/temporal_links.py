"""Links into the Temporal Web UI."""

import asyncio
from urllib.parse import quote

from temporalio.service import RPCError, RPCStatusCode

from api.resources import Resources

KNOWN_SECONDS = 0.1
"""Temporal answers within milliseconds whether it knows a workflow; a page does not wait for longer."""


def workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """The page of a workflow; None when there is no workflow or no Web UI (setting `temporal_ui_url`)."""
    return None if workflow_id is None else _page(resources, "workflows", workflow_id)


def schedule_url(resources: Resources, schedule_id: str) -> str | None:
    """The page of a schedule; None when there is no Web UI."""
    return _page(resources, "schedules", schedule_id)


def _page(resources: Resources, section: str, identity: str) -> str | None:
    root = resources.settings.temporal_ui_url
    if root is None:
        return None
    namespace = quote(resources.temporal.namespace, safe="")
    return f"{root.rstrip('/')}/namespaces/{namespace}/{section}/{quote(identity, safe='')}"


async def existing_workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """The page of a workflow whose run Temporal still keeps. Where it cannot say in time, the page is linked to."""
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
