"""For those who operate it: alive, ready, metrics. Without a key, and without an id or an address in any answer."""

import asyncio
from math import nan
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from api.body import Output
from api.operations.health import readiness
from api.operations.metrics import METRICS_CONTENT_TYPE
from api.resources import FromResources
from storage.unavailable import is_unavailable

BACKLOG_SECONDS = 1.0  # a scrape gets the other figures even when the database hangs

router = APIRouter(tags=["operations"])


class Alive(Output):
    """The process answers."""

    status: Annotated[str, Field(examples=["ok"])]


class CheckOut(Output):
    """One thing that is needed; `reason` says why it is not there."""

    ok: bool
    reason: str | None


class Readiness(Output):
    """Ready when every check is ok."""

    ready: bool
    checks: dict[str, CheckOut]


@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> Alive:
    """Says nothing of database and Temporal: restarting this process would not mend them."""
    return Alive(status="ok")


@router.get(
    "/readyz",
    summary="Whether it can do its work",
    responses={503: {"model": Readiness, "description": "Something is missing; the reasons say what."}},
)
async def readyz(resources: FromResources, response: Response) -> Readiness:
    """Database, migrations and Temporal, each with its reason, within two seconds."""
    checks = await readiness(resources.database, resources.temporal)
    ready = all(check.reason is None for check in checks)
    response.status_code = 200 if ready else 503
    return Readiness(
        ready=ready, checks={check.name: CheckOut(ok=check.reason is None, reason=check.reason) for check in checks}
    )


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {METRICS_CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
async def metrics(resources: FromResources) -> Response:
    """Backlog, age and the installation's figures are NaN while the database cannot be asked."""
    events, age = nan, nan
    try:
        async with asyncio.timeout(BACKLOG_SECONDS):
            backlog = await resources.backlog.current()
        events, age = backlog.events, backlog.oldest_seconds
    except Exception as error:
        if not is_unavailable(error):
            raise
    resources.metrics.backlog.set(events)
    resources.metrics.oldest_unmatched_seconds.set(age)
    resources.metrics.tell(await resources.installation.current())
    return Response(resources.metrics.exposition(), media_type=METRICS_CONTENT_TYPE)
