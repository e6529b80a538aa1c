"""HTTP endpoints of the worker: `/healthz` (alive), `/readyz` (database and relay), `/metrics`."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from telemetry.serving import serving

CHECK_SECONDS = 2.0
"""Timeout of a check. The prober of an endpoint treats a slower answer as a failure."""

SDK_METRICS = {
    "temporal_num_pollers": "Polls in progress, by type of poller; 0 while Temporal cannot be reached.",
    "temporal_worker_task_slots_available": "Free slots for tasks of a type; 0: this worker accepts no more.",
    "temporal_worker_task_slots_used": "Tasks in progress, by type.",
    "temporal_request_latency_seconds": "Duration of calls to Temporal, by operation.",
    "temporal_request_failure_total": "Failed calls to Temporal, by operation and status code.",
    "temporal_workflow_task_execution_latency_seconds": "Duration of our workflow code for a task.",
    "temporal_workflow_task_execution_failed_total": "Failed workflow tasks: the code does not fit a history.",
    "temporal_workflow_endtoend_latency_seconds": "Duration of workflows from start to end, by type.",
    "temporal_sticky_cache_size": "Workflows cached in this worker.",
}
"""Metrics of Temporal's SDK in alerts and dashboards, with their meaning; all others are exposed too."""

LOOPBACK = "127.0.0.1"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP. httpx would load the certificate authorities at each scrape, which takes 20 ms."""

PORT_TRIES = 5

logger = logging.getLogger(__name__)


class SdkMetrics:
    """Metrics of Temporal's SDK, which serves them on a port of its own; here on the loopback address alone."""

    def __init__(self) -> None:
        self.runtime, self._address = _runtime()

    async def exposition(self) -> bytes:
        """Return the metrics as text, empty if the SDK does not answer: the other metrics are useful alone."""
        try:
            async with asyncio.timeout(CHECK_SECONDS), httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
                return (await client.get(f"http://{self._address}/metrics")).content
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            logger.warning(
                "cannot read metrics of the Temporal SDK (%s); /metrics answers without them", type(error).__name__
            )
            return b""


def _runtime(tries: int = PORT_TRIES) -> tuple[Runtime, str]:
    """Return the SDK's runtime and the address of its metrics. The SDK cannot choose a free port, so this does."""
    while True:
        with socket.create_server((LOOPBACK, 0)) as free:
            address = f"{LOOPBACK}:{free.getsockname()[1]}"
        metrics = PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        try:
            return Runtime(telemetry=TelemetryConfig(metrics=metrics, attach_service_name=False)), address
        except RuntimeError as error:  # another process took the port in between
            tries -= 1
            logger.warning("cannot serve metrics of the Temporal SDK on %s (%s), %d tries left", address, error, tries)
            if not tries:
                raise


@asynccontextmanager
async def worker_health(
    host: str,
    port: int,
    *,
    ping_database: Callable[[], Awaitable[None]],
    in_words: Callable[[Exception], str],
    registry: CollectorRegistry,
    sdk: SdkMetrics | None,
    working: Callable[[], bool],
) -> AsyncIterator[None]:
    """Serve until the block ends; port 0 serves nothing. `working` returns True while relay and Temporal worker run,
    `in_words` what an operator is told of an error of the database."""
    if port == 0:
        yield
        return

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reasons = {} if working() else {"worker": "not polling Temporal (yet)"}
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await ping_database()
        except Exception as error:  # any failure means "not ready"
            reasons["database"] = in_words(error)
        return JSONResponse(
            {"status": "not ready" if reasons else "ready", "reasons": reasons}, 503 if reasons else 200
        )

    async def metrics(_: Request) -> Response:
        text = generate_latest(registry) + (b"" if sdk is None else await sdk.exposition())
        return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    async with serving(Starlette(routes=routes), host=host, port=port):
        yield
