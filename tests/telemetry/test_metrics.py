"""What is counted, how often, and that no label can grow without a bound."""

from collections.abc import AsyncIterator

import pytest

from api.operations.metrics import ApiMetrics
from domain.delivery.failure_kinds import FailureKind
from telemetry.worker_metrics import WorkerMetrics
from tests.receiver import Receiver, status
from tests.workbench import Workbench, workbench

pytestmark = pytest.mark.usefixtures("patient_batches")

BOUNDED_LABELS = {"event_name", "kind", "outcome", "reason", "route", "status"}
LAG = "loyalty_webhooks_first_attempt_lag_seconds"


@pytest.fixture
async def bench(cleared_url: str) -> AsyncIterator[Workbench]:
    async with workbench(cleared_url) as bench:
        yield bench


def sample(bench: Workbench, name: str, **labels: str) -> float:
    return bench.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_an_event_waits_once_for_each_first_attempt_whatever_comes_of_it(bench: Workbench) -> None:
    async with Receiver() as receiver:
        receiver.script(status(500))
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        [event_id] = await bench.emit("CustomerUpdated", "{}")
        await bench.execute("UPDATE subscription SET created_at = clock_timestamp() - interval '1 hour'")
        await bench.execute("UPDATE event SET accepted_at = clock_timestamp() - interval '7 seconds'")
        await bench.attempt_events([event_id])
        [message_id] = await bench.waiting()
        await bench.deliver_webhook(message_id)
    assert sample(bench, f"{LAG}_count") == 1
    assert sample(bench, f"{LAG}_sum") >= 7
    assert sample(bench, f"{LAG}_bucket", le="5.0") == 0
    assert sample(bench, "loyalty_webhooks_attempts_total", outcome="http_5xx") == 1
    assert sample(bench, "loyalty_webhooks_attempts_total", outcome="delivered") == 1
    assert sample(bench, "loyalty_webhooks_deliveries_ended_total", status="delivered") == 1
    assert sample(bench, "loyalty_webhooks_deliveries_ended_total", status="exhausted") == 0


async def test_a_first_attempt_that_its_batch_had_no_place_for_counts_when_it_is_made(bench: Workbench) -> None:
    async with Receiver() as receiver:
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"), status="paused")
        [event_id] = await bench.emit("CustomerUpdated", "{}")
        await bench.attempt_events([event_id])
        [delivery] = await bench.deliveries()
        assert sample(bench, f"{LAG}_count") == 0, "it is held"
        await bench.execute("UPDATE subscription SET status = 'active'")
        await bench.execute("UPDATE delivery SET status = 'pending'")
        await bench.deliver_webhook(delivery.message_id)
    assert sample(bench, f"{LAG}_count") == 1


async def test_what_an_attempt_ended_in_vain_is_counted(bench: Workbench) -> None:
    async with Receiver() as receiver:
        receiver.script(status(410))
        await bench.subscribe("CustomerUpdated", receiver.url("/hook"))
        await bench.attempt_events(await bench.emit("CustomerUpdated", "{}"))
    assert sample(bench, "loyalty_webhooks_deliveries_ended_total", status="exhausted") == 1


async def test_the_pools_use_is_told(bench: Workbench) -> None:
    bench.metrics.pool.watch(bench.database.pool.checkedout, bench.database.pool.size())
    async with bench.database.transaction():
        assert sample(bench, "loyalty_webhooks_database_connections_used") >= 1
    assert sample(bench, "loyalty_webhooks_database_connections_most") == bench.settings.database_pool_size


def test_every_label_has_few_values() -> None:
    """An event name is one of the catalogue's, an outcome one of the failure kinds."""
    labels = {
        label
        for registry in (ApiMetrics().registry, WorkerMetrics().registry)
        for collector in registry._collector_to_names
        for label in getattr(collector, "_labelnames", ())
    }
    assert labels == BOUNDED_LABELS
    assert len(FailureKind) < 50
