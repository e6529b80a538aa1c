"""A time limit shared by many requests ends each of them as `asyncio.timeout` would."""

import asyncio

import pytest

from sending.http.client import Deadlines


async def test_a_block_that_takes_too_long_is_cancelled_and_raises_timeout_error() -> None:
    deadlines = Deadlines(0.01)
    with pytest.raises(TimeoutError), deadlines:
        await asyncio.Event().wait()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_each_of_many_ends_and_those_in_time_do_not() -> None:
    deadlines = Deadlines(0.05)
    gate = asyncio.Event()

    async def attempt(waits: bool) -> str:
        try:
            with deadlines:
                await (gate.wait() if waits else asyncio.sleep(0))
        except TimeoutError:
            return "timeout"
        return "answered"

    results = await asyncio.gather(*(attempt(number % 2 == 0) for number in range(20)))
    assert results == ["timeout", "answered"] * 10


async def test_a_later_one_has_its_whole_time_although_the_timer_was_set_for_an_earlier_one() -> None:
    deadlines = Deadlines(0.2)
    loop = asyncio.get_running_loop()
    with deadlines:
        pass
    await asyncio.sleep(0.1)
    began = loop.time()
    with pytest.raises(TimeoutError), deadlines:
        await asyncio.Event().wait()
    assert loop.time() - began >= 0.2


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    deadlines = Deadlines(60)
    inside = asyncio.Event()

    async def attempt() -> None:
        with deadlines:
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(attempt())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_from_elsewhere_beside_the_timeout_is_not_swallowed() -> None:
    deadlines = Deadlines(0.01)

    async def attempt() -> None:
        with deadlines:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                current = asyncio.current_task()
                assert current is not None
                current.cancel()
                raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(attempt())


async def test_one_from_elsewhere_before_the_timeout_is_not_swallowed() -> None:
    deadlines = Deadlines(0.05)
    inside = asyncio.Event()

    async def attempt() -> None:
        with deadlines:
            try:
                inside.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.Event().wait()

    task = asyncio.create_task(attempt())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_pass_as_they_are() -> None:
    deadlines = Deadlines(60)
    with pytest.raises(ValueError, match="mine"), deadlines:
        raise ValueError("mine")
