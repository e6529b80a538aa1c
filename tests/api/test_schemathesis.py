"""Schemathesis over every operation of the OpenAPI document: all its checks, data that fits and data that does not.

A short run here; `SCHEMATHESIS_EXAMPLES=200` makes it long and adds the cases it leaves out, `SCHEMATHESIS_SEED` says
where the generator starts. The seed is printed.
"""

import asyncio
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from uuid import UUID

import pytest
import uvicorn
from temporalio.testing import WorkflowEnvironment

from api.app import create_app
from api.deliveries.service import write_cursor
from domain.access import Scope
from storage.access.queries import create_key, new_key
from storage.access.stores import create_store
from storage.database import Database
from storage.deliveries.log import Position
from tests.api.installation import settings_for
from tests.deadlines import eventually

SEED = os.environ.get("SCHEMATHESIS_SEED", "20260102")
LONG_RUN = "SCHEMATHESIS_EXAMPLES" in os.environ
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "2")
LEAST_CASES = 5_000 if LONG_RUN else 500
RUN_SECONDS = 3_600 if LONG_RUN else 240

# Elsewhere the combinations of parameters and fields run to thousands; the long run has them.
FEW_COMBINATIONS = tuple(
    argument
    for path in (
        *("/api/admin/login_check", "/api/token/refresh", "/api/admin/api-key", "/api/admin/api-key/{apiKeyId}"),
        "/api/{storeCode}/event/{eventId}",
        *("/api/{storeCode}/webhook/event", "/api/{storeCode}/webhook/event/{eventName}"),
        "/api/{storeCode}/webhook/delivery/{messageId}",
        "/api/{storeCode}/webhook/subscription/{webhookSubscriptionId}/rotate-hmac-secret",
        "/api/{storeCode}/webhook/explain",
    )
    for argument in ("--include-path", path)
)

# What no schema can say. A cursor carries a check sum, so the list is given one that is right. And what is refused for
# what is stored, or for what stands elsewhere in the request, is no broken word.
BEYOND_A_SCHEMA = (
    "POST /api/{storeCode}/event",  # the data of each event type
    "POST /api/{storeCode}/event/batch",
    "POST /api/{storeCode}/webhook/subscription",  # a certificate and its key, a header beside an authentication
    "POST /api/admin/store",  # names of time zones
    "PATCH /api/{storeCode}/settings",
    "PUT /api/{storeCode}/webhook/subscription/{webhookSubscriptionId}",  # to legacy, its event without a legacy form
    "POST /api/{storeCode}/webhook/subscription-set",  # ids that are not the store's
    "PUT /api/{storeCode}/expiry/points/{transferId}",  # an id that is not the path's
    "PUT /api/{storeCode}/expiry/levels/{customerId}",
    "PUT /api/{storeCode}/expiry/coupons/{issuedCouponId}",
    "POST /api/{storeCode}/schedule/{kind}/backfill",  # more days than may be, the last before the first
    "POST /api/{storeCode}/webhook/subscription/{webhookSubscriptionId}/recover",  # an end that is not after the start
    "POST /api/{storeCode}/webhook/subscription/{webhookSubscriptionId}/backfill",
)
CONFIGURATION = f"""
[parameters]
"query._cursor" = "{write_cursor(Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=0)))}"
""" + "".join(
    f"""
[[operations]]
include-name = "{name}"
checks.positive_data_acceptance.enabled = false
"""
    for name in BEYOND_A_SCHEMA
)


async def anywhere(hostname: str) -> Sequence[IPv4Address]:
    """Every name resolves, to an address of nobody's."""
    return [ip_address("93.184.216.34")]  # type: ignore[list-item]


@dataclass(frozen=True)
class Served:
    """The API over HTTP, and a key with every right."""

    url: str
    key: str


@asynccontextmanager
async def served(database_url: str) -> AsyncIterator[Served]:
    """The API behind the server that serves it in earnest, in a thread of its own."""
    settings = settings_for(database_url, subscriptions_per_store=10**6, subscriptions_per_event=10**6)
    database = Database(database_url, pool_size=1)
    key = new_key()
    async with database.transaction() as connection:
        await create_store(connection, "default", "Default")
        await create_key(connection, "schemathesis", key, (Scope.ADMIN,), ("*",))
    await database.close()
    config = uvicorn.Config(create_app(settings, anywhere), port=0, http="httptools", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="api")
    thread.start()
    try:

        async def listening() -> bool:
            return server.started

        await eventually(listening, 60, "the API listens")
        yield Served(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", key)
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)


async def schemathesis(api: Served, directory: Path, *arguments: str) -> tuple[int, str]:
    """Cases that were tried, and the report. Fails with the report when a check does."""
    configuration = directory / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"),
        *(f"{api.url}/openapi.json", "--header", f"X-AUTH-TOKEN: {api.key}"),
        *("--seed", SEED, "--continue-on-failure", "--request-timeout", "60", *arguments),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output = (await process.communicate())[0].decode()
    except TimeoutError:
        process.kill()
        raise
    print(output)
    assert process.returncode == 0, output
    tried = re.search(r"([\d,]+) generated", output)
    assert tried is not None, output
    return int(tried[1].replace(",", "")), output


@pytest.mark.timeout(RUN_SECONDS * 2)
async def test_every_operation_keeps_its_word(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal.client.namespace)
    for patience in ("operations.health.CHECK", "refusals.TEMPORAL", "login.principals.LOOK_UP"):
        monkeypatch.setattr(f"api.{patience}_SECONDS", 30.0)  # a documented 503 would be a failure too
    async with served(database_url) as api:
        whole = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES)
        parts = [whole] if LONG_RUN else [("--phases", "examples,fuzzing,stateful", *whole[2:])]
        if not LONG_RUN:
            parts.append(("--phases", "coverage", *FEW_COMBINATIONS))
        cases = 0
        for part in parts:
            tried, _ = await schemathesis(api, tmp_path, *part)
            cases += tried
    print(f"seed {SEED}: {cases} cases")
    assert cases >= LEAST_CASES
