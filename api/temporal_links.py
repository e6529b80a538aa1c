"""Links to pages of the Temporal Web UI, which are None without a Web UI (setting `temporal_ui_url`)."""

import asyncio
from urllib.parse import quote

from temporalio.service import RPCError, RPCStatusCode

from api.resources import Resources

KNOWN_SECONDS = 0.1
"""Timeout of a look-up in Temporal, which takes milliseconds. A page is not delayed further for a link."""


def workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """Return the page of a workflow, or None without a workflow."""
    return None if workflow_id is None else _page(resources, "workflows", workflow_id)


def schedule_url(resources: Resources, schedule_id: str) -> str | None:
    """Return the page of a schedule."""
    return _page(resources, "schedules", schedule_id)


def _page(resources: Resources, *path: str) -> str | None:
    root = resources.settings.temporal_ui_url
    if root is None:
        return None
    steps = ("namespaces", resources.temporal.namespace, *path)
    return "/".join([root.rstrip("/"), *(quote(step, safe="") for step in steps)])


async def existing_url(resources: Resources, *, workflow_id: str | None, retry_id: str | None = None) -> str | None:
    """Return the page of the activity that retries a delivery, else of the workflow.

    None if there is no Web UI, or if the workflow is past Temporal's retention; of such an activity a list by its id
    is left. The page is returned unchecked if Temporal does not answer within KNOWN_SECONDS.
    """
    url = workflow_url(resources, workflow_id)
    if retry_id is not None and (activities := _page(resources, "activities")) is not None:
        query = f'ActivityId="{retry_id}"'
        url = f"{activities}?query={quote(query, safe='')}"
    if url is None:
        return None
    try:
        async with asyncio.timeout(KNOWN_SECONDS):
            if retry_id is not None:
                described = await resources.temporal.get_activity_handle(retry_id).describe()
                return _page(resources, "activities", retry_id, str(described.activity_run_id), "details")
            await resources.temporal.get_workflow_handle(str(workflow_id)).describe()
    except RPCError as error:
        return None if retry_id is None and error.status is RPCStatusCode.NOT_FOUND else url
    except (TimeoutError, RuntimeError):  # RuntimeError: the first connection of a lazy client failed
        pass
    return url
