"""Links into the Temporal Web UI."""

from urllib.parse import quote

from api.resources import Resources


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
