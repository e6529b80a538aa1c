"""Answers remembered for a moment."""

import asyncio

import pytest

from api.login.short_memory import MOST_ENTRIES, ShortMemory


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
    memory: ShortMemory[str, str] = ShortMemory(1, clock)
    assert [await memory.get("a", oracle) for _ in range(3)] == ["yes"] * 3
    assert oracle.asked == 1
    clock.now = 0.999
    await memory.get("a", oracle)
    assert oracle.asked == 1
    clock.now = 1.0
    await memory.get("a", oracle)
    assert oracle.asked == 2


async def test_its_time_counts_from_before_the_question() -> None:
    clock, oracle = Clock(), Oracle()
    memory: ShortMemory[str, str] = ShortMemory(1, clock)
    oracle.may_answer.clear()
    first = asyncio.create_task(memory.get("a", oracle))
    await asyncio.sleep(0)
    clock.now = 5  # the answer takes five seconds, so it is five seconds old when it comes
    oracle.may_answer.set()
    assert await first == "yes"
    oracle.answer = "no"
    assert await memory.get("a", oracle) == "no"


async def test_many_at_once_ask_one_question() -> None:
    oracle = Oracle()
    memory: ShortMemory[str, str] = ShortMemory(1)
    assert await asyncio.gather(*(memory.get("a", oracle) for _ in range(100))) == ["yes"] * 100
    assert oracle.asked == 1


async def test_one_who_goes_away_takes_the_answer_from_nobody() -> None:
    oracle = Oracle()
    oracle.may_answer.clear()
    memory: ShortMemory[str, str] = ShortMemory(1)
    leaving, staying = (asyncio.create_task(memory.get("a", oracle)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    oracle.may_answer.set()
    assert await staying == "yes"


async def test_what_is_not_found_or_fails_is_not_remembered() -> None:
    oracle = Oracle(None)
    memory: ShortMemory[str, str] = ShortMemory(60)
    assert await memory.get("a", oracle) is None
    oracle.answer = "yes"
    assert await memory.get("a", oracle) == "yes"

    async def fails() -> str | None:
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await memory.get("b", fails)
    assert await memory.get("b", oracle) == "yes"


async def test_memory_is_bounded() -> None:
    memory: ShortMemory[int, str] = ShortMemory(60)
    oracle = Oracle()
    for number in range(MOST_ENTRIES + 10):
        await memory.get(number, oracle)
    assert len(memory._asked) <= MOST_ENTRIES
