"""The intake: commits are shared, nobody suffers for another, and what cannot be stored now is refused whole."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from storage.database import Database
from storage.events.outbox import NOTIFY_INTERVAL_SECONDS, OUTBOX_CHANNEL, EventBacklog
from tests.api.running import NDJSON, RunningApi, running_api
from tests.databases import cloned_database
from tests.deadlines import eventually
from tests.storage.test_intake import new_event
from tests.tcp_proxy import TcpProxy, tcp_proxy

DUE_SECONDS = 20


@pytest.fixture(scope="module")
async def api(database_template: str) -> AsyncIterator[RunningApi]:
    async with cloned_database(database_template) as url, running_api(url) as running:
        yield running


@asynccontextmanager
async def behind_proxy(database_url: str, **overrides: Any) -> AsyncIterator[tuple[RunningApi, TcpProxy]]:
    """An API that reaches its database through a connection that can be cut."""
    parts = urlsplit(database_url)
    async with tcp_proxy(parts.hostname or "", parts.port or 5432) as proxy:
        through = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
        async with running_api(through, **overrides) as running:
            yield running, proxy


async def committed(api: RunningApi) -> tuple[float, float]:
    """Transactions and events so far, by the API's own metrics."""
    text = (await api.get("/metrics")).text
    found = [re.search(rf"loyalty_webhooks_intake_commit_events_{name} (\S+)", text) for name in ("count", "sum")]
    return float(found[0][1]), float(found[1][1])  # type: ignore[index]


class TestSharedCommits:
    async def test_single_emits_at_once_share_a_few_transactions(self, api: RunningApi) -> None:
        before = await committed(api)
        answers = await asyncio.gather(*(api.emit() for _ in range(300)))
        after = await committed(api)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["eventId"] for answer in answers}) == 300
        assert after[1] - before[1] == 300
        assert after[0] - before[0] < 100

    async def test_an_emit_alone_is_committed_at_once(self, api: RunningApi) -> None:
        before = await committed(api)
        for _ in range(5):
            assert (await api.emit()).status_code == 202
        assert (await committed(api))[0] - before[0] == 5

    async def test_the_same_event_from_many_callers_is_stored_once(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        answers = await asyncio.gather(*(api.emit(eventId=event_id) for _ in range(100)))
        assert [answer.status_code for answer in answers] == [202] * 100
        assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 99

    async def test_of_different_contents_under_one_id_the_first_wins_and_the_others_conflict(
        self, api: RunningApi
    ) -> None:
        event_id = str(uuid4())
        answers = await asyncio.gather(
            *(api.emit("LevelWillExpire", {"levelName": str(n % 2)}, eventId=event_id) for n in range(60)),
            *(api.emit() for _ in range(60)),
        )
        contested, others = answers[:60], answers[60:]
        assert {answer.status_code for answer in others} == {202}
        accepted = [n % 2 for n, answer in enumerate(contested) if answer.status_code == 202]
        assert len(accepted) == 30
        assert len(set(accepted)) == 1
        for answer in contested:
            assert answer.status_code in (202, 409)
            assert answer.status_code == 202 or answer.json()["differences"] == ["data.levelName"]

    async def test_callers_who_leave_do_not_harm_those_who_stay(self, api: RunningApi) -> None:
        tasks = [asyncio.create_task(api.emit()) for _ in range(120)]
        for task in tasks[::3]:
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        stayed = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert len(stayed) >= 80
        assert {answer.status_code for answer in stayed} == {202}
        assert (await api.emit()).status_code == 202

    async def test_singles_and_batches_over_the_same_ids_agree(self, api: RunningApi) -> None:
        ids = [str(uuid4()) for _ in range(40)]
        lines = ["\n".join(json.dumps({"eventName": "CustomerUpdated", "data": {}, "eventId": id_}) for id_ in order)
                 for order in (ids, ids[::-1], ids[20:] + ids[:20])]  # fmt: skip
        async with asyncio.timeout(DUE_SECONDS):
            answers = await asyncio.gather(
                *(api.post("event/batch", body, headers=NDJSON) for body in lines),
                *(api.emit(eventId=id_) for id_ in ids),
            )
        assert {answer.status_code for answer in answers} == {202}
        items = [item for answer in answers[:3] for item in answer.json()["items"]]
        items += [answer.json() for answer in answers[3:]]
        assert sorted(item["eventId"] for item in items if not item["duplicate"]) == sorted(ids)


class TestWakingTheRelay:
    async def test_a_relay_that_listens_is_notified_after_the_commit(self, api: RunningApi) -> None:
        seen: list[int] = []
        listener = await api.database.listener()
        try:
            reader, reading = await api.database.listener(), asyncio.Lock()

            async def look(*_: Any) -> None:
                async with reading:
                    seen.append(await reader.fetchval("SELECT count(*) FROM event"))

            await listener.add_listener(OUTBOX_CHANNEL, look)
            before = await api.count()
            await api.emit()

            async def notified_and_visible() -> bool:
                return bool(seen) and seen[-1] > before

            await eventually(notified_and_visible, DUE_SECONDS, "the relay is notified")
            async with reading:
                await reader.close()
        finally:
            await listener.close()

    async def test_a_burst_of_single_emits_sends_few_notifications(self, api: RunningApi) -> None:
        heard: list[str] = []
        listener = await api.database.listener()
        try:
            await listener.add_listener(OUTBOX_CHANNEL, lambda *arguments: heard.append(arguments[-1]))
            began = asyncio.get_running_loop().time()
            for _ in range(40):
                await asyncio.gather(*(api.emit() for _ in range(10)))
            took = asyncio.get_running_loop().time() - began
            assert 1 <= len(heard) <= took / NOTIFY_INTERVAL_SECONDS + 2
        finally:
            await listener.close()


class TestWhatCannotBeStoredNow:
    async def test_a_database_that_is_gone_is_a_503_and_one_that_returns_takes_events_again(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.database.AWAY_SECONDS", 0.5)
        async with behind_proxy(database_url) as (api, proxy):
            assert (await api.emit()).status_code == 202
            proxy.cut(refuse=True)
            answer = await api.emit()
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "database" in answer.json()["message"]
            batch = await api.post("event/batch", [{"eventName": "CustomerUpdated", "data": {}}])
            assert batch.status_code == 503
            proxy.mend()

            async def taken_again() -> bool:
                return (await api.emit()).status_code == 202

            await eventually(taken_again, DUE_SECONDS, "events are taken again")

    async def test_emits_wait_for_a_database_that_is_soon_back(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.database.AWAY_SECONDS", 30.0)
        async with behind_proxy(database_url) as (api, proxy):
            assert (await api.emit()).status_code == 202
            proxy.cut(refuse=True)
            for cache in (api.resources.backlog._cache, api.resources.principals._keys):
                cache._entries.clear()  # as after a second without emits
            batch = api.post("event/batch", [{"eventName": "CustomerUpdated", "data": {}}])
            waiting = [asyncio.ensure_future(one) for one in (api.emit(), batch)]

            async def met() -> bool:
                return proxy.refused > 2

            await eventually(met, DUE_SECONDS, "the API asks again for its database")
            assert not any(one.done() for one in waiting)
            proxy.mend()
            assert [one.status_code for one in await asyncio.gather(*waiting)] == [202, 202]

    async def test_no_more_events_wait_for_a_database_than_memory_has_room_for(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.database.AWAY_SECONDS", 60.0)
        monkeypatch.setattr("storage.database.MOST_REPEATED", 20)
        async with behind_proxy(database_url) as (api, proxy):
            assert (await api.emit()).status_code == 202
            proxy.cut(refuse=True)
            events = [{"eventName": "CustomerUpdated", "data": {}}] * 20
            waiting = [asyncio.ensure_future(api.post("event/batch", events))]

            async def met() -> bool:
                return proxy.refused > 2

            await eventually(met, DUE_SECONDS, "the first events wait")
            assert not waiting[0].done()
            waiting.append(asyncio.ensure_future(api.post("event/batch", events)))
            [refused, *_], _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert refused.result().status_code == 503
            proxy.mend()
            await asyncio.wait(waiting)

    async def test_work_is_repeated_in_each_outage_anew_though_none_succeeded_in_between(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.database.AWAY_SECONDS", 0.3)
        database, outages = Database("postgresql://nobody@127.0.0.1:1/nothing"), iter([True] * 2 + [False])

        async def fail() -> None:
            raise ConnectionError

        async def fail_twice() -> bool:
            if next(outages):
                raise ConnectionError
            return True

        with pytest.raises(ConnectionError):
            await database.repeated(fail)
        monkeypatch.setattr("storage.database.AWAY_SECONDS", 5.0)
        database._failed_at -= 10.0  # as 10 s later
        assert await database.repeated(fail_twice)

    async def test_connections_that_broke_while_idle_cost_nobody_a_503(self, database_url: str) -> None:
        async with behind_proxy(database_url) as (api, proxy):
            for _ in range(3):
                assert {answer.status_code for answer in await asyncio.gather(*(api.emit() for _ in range(20)))} == {
                    202
                }
                proxy.cut()
                await asyncio.sleep(0)
            batch = await api.post("event/batch", [{"eventName": "CustomerUpdated", "data": {}}])
            assert batch.status_code == 202
            assert (await api.emit()).status_code == 202

    async def test_a_database_that_hangs_is_a_503_within_bounds(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.events.intake.COMMIT_SECONDS", 0.5)
        monkeypatch.setattr("api.events.backlog.READ_SECONDS", 0.5)
        monkeypatch.setattr("api.login.principals.LOOK_UP_SECONDS", 0.5)
        async with behind_proxy(database_url) as (api, proxy):
            assert (await api.emit()).status_code == 202
            proxy.freeze()
            async with asyncio.timeout(DUE_SECONDS):
                answers = list(await asyncio.gather(api.emit(), api.emit()))
                api.resources.backlog._cache._entries.clear()  # as after a second without emits
                answers.append(await api.emit())
            assert [answer.status_code for answer in answers] == [503, 503, 503]
            proxy.mend()

            async def taken_again() -> bool:
                return (await api.emit()).status_code == 202

            await eventually(taken_again, DUE_SECONDS, "events are taken again")

    async def test_a_full_disk_is_a_503_that_accepts_nothing(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            await api.execute(
                "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
            )
            await api.execute("CREATE TRIGGER full_disk AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION no_space()")
            answers = [await api.emit(), await api.post("event/batch", [{"eventName": "CustomerUpdated", "data": {}}])]
            for answer in answers:
                assert answer.status_code == 503
                assert "disk is full" in answer.json()["message"]
                assert int(answer.headers["Retry-After"]) > 1
            assert await api.count() == 0

    async def test_one_event_that_cannot_be_stored_fails_alone(self, database_url: str) -> None:
        async with running_api(database_url) as api:
            await api.execute("ALTER TABLE event_body ADD CONSTRAINT picky CHECK (data NOT LIKE '%poison%')")
            answers = await asyncio.gather(
                *(api.emit("LevelWillExpire", {"levelName": "poison" if n == 7 else "fine"}) for n in range(20))
            )
            statuses = [answer.status_code for answer in answers]
            assert statuses.pop(7) == 500
            assert statuses == [202] * 19
            assert await api.count() == 19

    async def test_a_backlog_over_its_limit_is_a_503_until_it_shrinks(self, database_url: str) -> None:
        async with running_api(database_url, backlog_limit_events=5) as api:
            batch = [{"eventName": "CustomerUpdated", "data": {}}] * 6
            assert (await api.post("event/batch", batch)).status_code == 202

            async def refused() -> bool:
                return (await api.emit()).status_code == 503

            await eventually(refused, DUE_SECONDS, "the backlog is over its limit")
            answer = await api.post("event/batch", batch)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "5" in answer.json()["message"]
            await api.execute("UPDATE event SET matched_at = now()")

            async def taken() -> bool:
                return (await api.emit()).status_code == 202

            await eventually(taken, DUE_SECONDS, "the backlog has shrunk")

    async def test_a_secret_sealed_with_a_lost_key_cannot_be_compared(self, api: RunningApi) -> None:
        event_id = str(uuid4())
        data = {"customer": {"customerId": str(uuid4())}, "code": "open"}
        await api.emit("CustomerRequestedPasswordReset", data, eventId=event_id)
        await api.execute("UPDATE event_body SET sealed_data = 'lost' WHERE event_id = :id", id=UUID(event_id))
        answer = await api.emit("CustomerRequestedPasswordReset", data, eventId=event_id)
        assert answer.status_code == 503
        assert "ENCRYPTION_KEYS" in answer.json()["message"]


async def test_a_batch_gives_way_while_events_come_one_by_one_too(api: RunningApi) -> None:
    intake = api.resources.intake
    await intake.accept_all([new_event() for _ in range(1000)])
    await intake.accept(new_event())

    async def overtakes() -> bool:
        first, single = new_event(), new_event()
        batch = [first, *(new_event() for _ in range(999))]
        await asyncio.gather(intake.accept_all(batch), intake.accept(single))
        rows = await api.execute(
            "SELECT event_id FROM event WHERE event_id IN (:first, :single) ORDER BY sequence",
            first=first.event_id,
            single=single.event_id,
        )
        return [row.event_id for row in rows] == [single.event_id, first.event_id]

    await eventually(overtakes, DUE_SECONDS, "a single event before a batch that came before it")


async def test_what_was_begun_is_committed_before_the_intake_is_closed(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.emit()

    async def none() -> EventBacklog:
        return EventBacklog(0, 0.0)

    monkeypatch.setattr(api.resources.backlog, "current", none)  # else an emit may wait for it before it has begun
    events = [new_event() for _ in range(30)]
    tasks = [asyncio.create_task(api.resources.intake.accept(event)) for event in events]
    await asyncio.sleep(0)
    await api.resources.intake.close()
    assert [task.result() for task in tasks] == [False] * 30
    rows = await api.execute("SELECT 1 FROM event WHERE event_id = ANY(:ids)", ids=[event.event_id for event in events])
    assert len(rows) == 30
