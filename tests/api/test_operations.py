"""Alive, ready, metrics: without a key, without anything of a store in them, and quick when others hang."""

import asyncio
import re
from collections.abc import AsyncIterator
from math import isnan

import pytest

from api.operations.health import readiness
from api.operations.metrics import ApiMetrics
from api.resources import open_resources
from storage.operations.gauges import InstallationFigures
from tests.api.running import RunningApi, running_api, settings_for
from tests.api.test_intake import behind_proxy
from tests.databases import cloned_database, empty_database
from tests.house import PYPROJECT
from tests.tcp_proxy import tcp_proxy
from tests.temporal_server import real_server

NO_KEY = {"X-AUTH-TOKEN": ""}
ANSWER_SECONDS = 30  # far above the bound of 2 s, for a busy machine; a hang would last for ever
UNREACHABLE = "127.0.0.1:1"
REQUESTS = "loyalty_webhooks_api_request_seconds_count"


@pytest.fixture
def without_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", UNREACHABLE)


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    async with cloned_database(database_template) as url, running_api(url) as running:
        yield running


async def test_a_process_that_answers_is_alive_whatever_else_is_missing(
    database_url: str, without_temporal: None
) -> None:
    async with behind_proxy(database_url) as (api, proxy):
        proxy.cut(refuse=True)
        answer = await api.get("/healthz", headers=NO_KEY)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and figures that are not given up while the machine is busy."""
    monkeypatch.setattr("api.operations.health.CHECK_SECONDS", 20.0)
    monkeypatch.setattr("api.operations.routes.BACKLOG_SECONDS", 20.0)
    monkeypatch.setattr("api.operations.metrics.FIRST_SECONDS", 20.0)


class TestReady:
    @pytest.mark.usefixtures("patient")
    async def test_with_database_migrations_and_temporal(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with real_server() as temporal:
            monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
            async with running_api(database_url) as api:
                answer = await api.get("/readyz", headers=NO_KEY)
        assert answer.status_code == 200, answer.text
        there = {"ok": True, "reason": None}
        assert answer.json() == {
            "ready": True,
            "checks": {"database": there, "migrations": there, "temporal": there},
        }

    @pytest.mark.usefixtures("patient")
    async def test_with_a_schema_that_a_newer_version_has_migrated(
        self, database_url: str, without_temporal: None
    ) -> None:
        async with running_api(database_url) as api:
            await api.execute("UPDATE alembic_version SET version_num = '9999'")
            answer = await api.get("/readyz", headers=NO_KEY)
            assert answer.json()["checks"]["migrations"]["ok"] is True

    @pytest.mark.usefixtures("patient")
    async def test_not_without_temporal(self, database_url: str, without_temporal: None) -> None:
        async with running_api(database_url) as api, asyncio.timeout(ANSWER_SECONDS):
            answer = await api.get("/readyz", headers=NO_KEY)
        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert answer.json()["ready"] is False
        assert (checks["database"]["ok"], checks["migrations"]["ok"], checks["temporal"]["ok"]) == (True, True, False)
        assert checks["temporal"]["reason"]
        assert UNREACHABLE not in answer.text

    @pytest.mark.usefixtures("patient")
    async def test_not_without_a_database(self, database_url: str, without_temporal: None) -> None:
        async with behind_proxy(database_url) as (api, proxy), asyncio.timeout(ANSWER_SECONDS):
            proxy.cut(refuse=True)
            answer = await api.get("/readyz", headers=NO_KEY)
            assert answer.status_code == 503
            assert answer.json()["checks"]["database"] == {"ok": False, "reason": "cannot be reached"}
            assert str(proxy.port) not in answer.text
            proxy.mend()
            assert (await api.get("/readyz")).json()["checks"]["database"]["ok"] is True

    async def test_not_while_the_database_hangs_and_says_so_soon(
        self, database_url: str, without_temporal: None
    ) -> None:
        async with behind_proxy(database_url) as (api, proxy), asyncio.timeout(ANSWER_SECONDS):
            proxy.freeze()
            answer = await api.get("/readyz", headers=NO_KEY)
            proxy.mend()  # before anything is asserted: the API cannot end while its database hangs
            assert answer.status_code == 503
            assert "did not answer within" in answer.json()["checks"]["migrations"]["reason"]

    async def test_not_while_temporal_hangs(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with tcp_proxy("127.0.0.1", 1) as proxy:
            proxy.freeze()
            monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{proxy.port}")
            async with running_api(database_url) as api, asyncio.timeout(ANSWER_SECONDS):
                answer = await api.get("/readyz", headers=NO_KEY)
        assert answer.status_code == 503
        assert answer.json()["checks"]["temporal"]["ok"] is False

    @pytest.mark.usefixtures("patient")
    async def test_not_on_a_database_without_our_schema(self, postgres: str, without_temporal: None) -> None:
        async with (
            empty_database() as url,
            asyncio.timeout(ANSWER_SECONDS),
            open_resources(settings_for(url), ApiMetrics()) as resources,
        ):
            checks = await readiness(resources.database, resources.temporal)
        assert checks["database"] is None
        assert "loyalty-webhooks migrate" in (checks["migrations"] or "")


def figure(text: str, name: str) -> float:
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(value)


class TestMetrics:
    async def test_count_what_was_taken_repeated_and_refused(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            event_id = (await api.emit()).json()["eventId"]
            await api.emit(eventId=event_id)
            await api.emit("LevelWillExpire", eventId=event_id)
            await api.emit("Unknown")
            await api.post("event/batch", [{"eventName": "LevelWillExpire", "data": {}}] * 3)
            await api.post("event", {}, headers={"X-AUTH-TOKEN": "wrong"})
            await api.post("/api/nowhere/event", {})
            answer = await api.get("/metrics", headers=NO_KEY)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        name = "loyalty_webhooks_events_accepted_total"
        assert figure(answer.text, f'{name}{{event_name="CustomerUpdated"}}') == 1
        assert figure(answer.text, f'{name}{{event_name="LevelWillExpire"}}') == 3
        assert figure(answer.text, "loyalty_webhooks_events_duplicate_total") == 1
        for code in (400, 401, 404, 409):
            assert figure(answer.text, f'{REQUESTS}{{route="POST /api/{{storeCode}}/event",status="{code}"}}') == 1
        assert figure(answer.text, "loyalty_webhooks_intake_commit_seconds_count") >= 3
        assert event_id not in answer.text

    async def test_tell_how_long_each_route_takes(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            await api.emit()
            await api.emit("Unknown")
            for method, path in (
                ("GET", f"/api/{api.store}/webhook/subscription"),
                ("BREW", "/healthz"),
                ("GET", "/a/path/that/somebody/made-up"),
                ("GET", "/docs/assets/swagger-ui.css"),
                ("GET", f"/admin/{api.store}/webhooks"),
            ):
                await api.client.request(method, path)
            text = (await api.get("/metrics", headers=NO_KEY)).text
        for route, status, count in (
            ("POST /api/{storeCode}/event", 202, 1),
            ("POST /api/{storeCode}/event", 400, 1),
            ("GET /api/{storeCode}/webhook/subscription", 200, 1),
            ("other", 405, 1),
            ("other", 404, 1),
            ("other", 200, 1),
            ("GET /admin/{storeCode}/webhooks", 303, 1),
        ):
            assert figure(text, f'{REQUESTS}{{route="{route}",status="{status}"}}') == count
        assert "made-up" not in text

    async def test_tell_the_process_and_its_version(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            text = (await api.get("/metrics", headers=NO_KEY)).text
        assert 0 < figure(text, "process_open_fds") < figure(text, "process_max_fds")
        assert figure(text, "process_resident_memory_bytes") > 1_000_000
        assert figure(text, 'python_gc_collections_total{generation="0"}') >= 0
        assert "python_info{" in text
        version = PYPROJECT["project"]["version"]
        assert figure(text, f'loyalty_webhooks_build_info{{commit="",version="{version}"}}') == 1

    @pytest.mark.usefixtures("patient")
    async def test_tell_the_backlog_and_the_age_of_its_oldest_event(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            await api.post("event/batch", [{"eventName": "LevelWillExpire", "data": {}}] * 7)
            await api.execute("UPDATE event SET accepted_at = now() - interval '90 s'")
            api.resources.backlog._cache._entries.clear()
            text = (await api.get("/metrics")).text
            assert figure(text, "loyalty_webhooks_backlog_events") == 7
            assert figure(text, "loyalty_webhooks_backlog_oldest_seconds") >= 90

    @pytest.mark.usefixtures("patient")
    async def test_tell_how_the_installation_stands(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            await api.execute(
                "INSERT INTO worker (id, host, pid, seen_at) "
                "VALUES (gen_random_uuid(), 'h', 1, now() + interval '1 hour')"
            )
            text = (await api.get("/metrics")).text
            assert figure(text, "loyalty_webhooks_workers") == 1
            assert figure(text, "loyalty_webhooks_breakers_open") == 0
            assert isnan(figure(text, "loyalty_webhooks_client_certificate_expires_in_seconds"))
            for status in ("pending", "held"):
                assert figure(text, f'loyalty_webhooks_deliveries_waiting{{status="{status}"}}') == 0
            for status in ("active", "paused", "disabled"):
                assert figure(text, f'loyalty_webhooks_subscriptions{{status="{status}"}}') == 0
            assert figure(text, "loyalty_webhooks_database_connections_most") == 10
            assert 0 <= figure(text, "loyalty_webhooks_database_connections_used") <= 10

    def test_tell_when_the_first_client_certificate_expires(self) -> None:
        metrics = ApiMetrics()
        figures = InstallationFigures(
            pending=0,
            held=0,
            breakers_open=0,
            workers=1,
            subscriptions={},
            scan_age_seconds={},
            certificate_seconds=90.0,
        )
        metrics.tell(figures)
        assert metrics.registry.get_sample_value("loyalty_webhooks_client_certificate_expires_in_seconds") == 90

    async def test_are_there_while_the_database_is_not(self, database_url: str) -> None:
        async with behind_proxy(database_url) as (api, proxy), asyncio.timeout(ANSWER_SECONDS):
            proxy.cut(refuse=True)
            assert (await api.emit()).status_code == 503
            answer = await api.get("/metrics", headers=NO_KEY)
            assert isnan(figure(answer.text, "loyalty_webhooks_backlog_events"))
            assert figure(answer.text, f'{REQUESTS}{{route="POST /api/{{storeCode}}/event",status="503"}}') == 1
            assert isnan(figure(answer.text, "loyalty_webhooks_workers"))
            assert isnan(figure(answer.text, 'loyalty_webhooks_deliveries_waiting{status="held"}'))
            proxy.mend()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
async def test_the_operators_paths_need_no_key_and_tell_nothing_of_a_store(api: RunningApi, path: str) -> None:
    event_id = (await api.emit("LevelWillExpire", {"levelName": "Platinum"})).json()["eventId"]
    answer = await api.get(path, headers=NO_KEY)
    assert answer.status_code in (200, 503)
    assert answer.status_code == 200 or path == "/readyz"
    assert event_id not in answer.text
    assert "Platinum" not in answer.text
