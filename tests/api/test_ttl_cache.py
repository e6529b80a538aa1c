"""The TTL cache: expiry, single flight, refresh-ahead."""

import asyncio

import pytest

from api.ttl_cache import MOST_ENTRIES, TtlCache


class Oracle:
    """Answers when told to, and counts who asked."""

    def __init__(self, answer: str | None = "yes") -> None:
        self.answer = answer
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> str | None:
        self.asked += 1
        answer = self.answer
        await self.may_answer.wait()
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_it_asks_once_in_its_time_and_again_after() -> None:
    clock, oracle = Clock(), Oracle()
    cache: TtlCache[str, str] = TtlCache(1, clock=clock)
    assert [await cache.get("a", oracle) for _ in range(3)] == ["yes"] * 3
    assert oracle.asked == 1
    clock.now = 0.999
    await cache.get("a", oracle)
    assert oracle.asked == 1
    clock.now = 1.0
    await cache.get("a", oracle)
    assert oracle.asked == 2


async def test_its_time_counts_from_before_the_question() -> None:
    clock, oracle = Clock(), Oracle()
    cache: TtlCache[str, str] = TtlCache(1, clock=clock)
    oracle.may_answer.clear()
    first = asyncio.create_task(cache.get("a", oracle))
    await asyncio.sleep(0)
    clock.now = 5  # the answer takes five seconds, so it is five seconds old when it comes
    oracle.may_answer.set()
    assert await first == "yes"
    oracle.answer = "no"
    assert await cache.get("a", oracle) == "no"


async def test_many_at_once_ask_one_question() -> None:
    oracle = Oracle()
    cache: TtlCache[str, str] = TtlCache(1)
    assert await asyncio.gather(*(cache.get("a", oracle) for _ in range(100))) == ["yes"] * 100
    assert oracle.asked == 1


async def test_one_who_goes_away_takes_the_answer_from_nobody() -> None:
    oracle = Oracle()
    oracle.may_answer.clear()
    cache: TtlCache[str, str] = TtlCache(1)
    leaving, staying = (asyncio.create_task(cache.get("a", oracle)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    oracle.may_answer.set()
    assert await staying == "yes"


async def test_what_is_not_found_or_fails_is_not_remembered() -> None:
    oracle = Oracle(None)
    cache: TtlCache[str, str] = TtlCache(60)
    assert await cache.get("a", oracle) is None
    oracle.answer = "yes"
    assert await cache.get("a", oracle) == "yes"

    async def fails() -> str | None:
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await cache.get("b", fails)
    assert await cache.get("b", oracle) == "yes"


async def test_cache_is_bounded() -> None:
    cache: TtlCache[int, str] = TtlCache(60)
    oracle = Oracle()
    for number in range(MOST_ENTRIES + 10):
        await cache.get(number, oracle)
    assert len(cache._entries) <= MOST_ENTRIES


async def test_a_value_past_its_refresh_age_is_returned_while_it_is_loaded_again() -> None:
    clock, oracle = Clock(), Oracle()
    cache: TtlCache[str, str] = TtlCache(10, refresh_seconds=1, clock=clock)
    assert await cache.get("a", oracle) == "yes"
    clock.now, oracle.answer = 1.0, "no"
    oracle.may_answer.clear()
    assert await cache.get("a", oracle) == await cache.get("a", oracle) == "yes"
    oracle.may_answer.set()
    await cache.close()
    assert (await cache.get("a", oracle), oracle.asked) == ("no", 2)


async def test_a_failed_refresh_leaves_the_value_until_its_ttl_and_then_raises() -> None:
    clock, oracle = Clock(), Oracle()
    cache: TtlCache[str, str] = TtlCache(10, refresh_seconds=1, clock=clock)
    assert await cache.get("a", oracle) == "yes"

    async def fails() -> str | None:
        raise OSError("no database")

    clock.now = 5.0
    assert await cache.get("a", fails) == "yes"
    await cache.close()
    clock.now = 10.0
    with pytest.raises(OSError, match="no database"):
        await cache.get("a", fails)


async def test_a_load_older_than_the_ttl_is_not_joined() -> None:
    clock, slow, fast = Clock(), Oracle("old"), Oracle("new")
    cache: TtlCache[str, str] = TtlCache(1, clock=clock)
    slow.may_answer.clear()
    first = asyncio.create_task(cache.get("a", slow))
    await asyncio.sleep(0)
    clock.now = 1.0
    assert await cache.get("a", fast) == "new"
    slow.may_answer.set()
    assert await first == "old"
    assert await cache.get("a", fast) == "new"
