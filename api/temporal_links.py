"""Links into the Temporal Web UI."""

from urllib.parse import quote

from api.resources import Resources


def workflow_url(resources: Resources, workflow_id: str | None) -> str | None:
    """The page of a workflow; None when there is no workflow or no Web UI (setting `temporal_ui_url`)."""
    root = resources.settings.temporal_ui_url
    if root is None or workflow_id is None:
        return None
    namespace = quote(resources.temporal.namespace, safe="")
    return f"{root.rstrip('/')}/namespaces/{namespace}/workflows/{quote(workflow_id, safe='')}"
