"""Routes for operators: liveness, readiness, metrics. They need no key, and responses contain no id or address."""

import asyncio
from math import nan
from typing import Annotated

from fastapi import APIRouter, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import Field

from api.body import Output
from api.operations.health import readiness
from api.resources import FromResources
from storage.unavailable import is_unavailable

BACKLOG_SECONDS = 1.0
"""Timeout of the backlog. A scrape gets the other figures even if the database hangs."""

router = APIRouter(tags=["operations"])


class Alive(Output):
    """Liveness of the process."""

    status: Annotated[str, Field(examples=["ok"])]


class CheckOut(Output):
    """Check of one dependency, with the `reason` of a failure."""

    ok: bool
    reason: str | None


class Readiness(Output):
    """Readiness of the process: ready if every check is ok."""

    ready: bool
    checks: dict[str, CheckOut]


@router.get("/healthz", summary="Liveness of the process")
async def check_liveness() -> Alive:
    """Confirm that the process answers. Excludes database and Temporal: a restart would not repair them."""
    return Alive(status="ok")


@router.get(
    "/readyz",
    summary="Readiness of the process",
    responses={503: {"model": Readiness, "description": "A check failed; see the reasons."}},
)
async def check_readiness(resources: FromResources, response: Response) -> Readiness:
    """Check database, migrations and Temporal, within two seconds."""
    found = await readiness(resources.database, resources.temporal)
    checks = {name: CheckOut(ok=reason is None, reason=reason) for name, reason in found.items()}
    ready = all(check.ok for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {"schema": {"type": "string"}}}}},
)
async def get_metrics(resources: FromResources) -> Response:
    """Return all metrics. Backlog, age and the installation's figures are NaN while the database is unavailable."""
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
    return Response(generate_latest(resources.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
