"""Many objects in one body: a JSON array, or lines of NDJSON, taken in slices.

Reading and checking is CPU work. Between two slices other requests get their turn, and a large array is parsed in a
thread, so that eight megabytes do not hold up somebody else's single call.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from api.body import parse_body
from api.errors import ApiError, Problem, invalid
from domain.wire.jsontext import JsonTextError, join, parse

JSON = "application/json"
NDJSON = "application/x-ndjson"

SLICE_OBJECTS = 25  # about 1 ms of checking between two turns of the event loop
SLICE_BYTES = 128 * 1024  # the same where objects are large

UNREADABLE = object()
"""Stands for a line that is not JSON, so that the objects after it keep their index."""


class TooMuchError(ApiError):
    """413: more objects than a batch may hold, or one larger than it may be."""

    status = 413


def has_groups(request: Request) -> bool:
    """Whether the body is NDJSON, by its content type."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON


@dataclass(frozen=True, slots=True)
class Batch:
    """How many objects a body may hold, and what they are called, in the plural."""

    most: int
    noun: str

    async def slices(self, raw: bytes, *, lines: bool, problems: list[Problem]) -> AsyncIterator[Sequence[Any]]:
        """The parsed objects in order; a line that is not JSON is UNREADABLE and one of the `problems`.

        Blank lines are skipped. Raises ValidationFailed and TooMuchError.
        """
        async for values in self._of_lines(raw, problems) if lines else self._of_array(raw):
            yield values

    async def _of_array(self, raw: bytes) -> AsyncIterator[Sequence[Any]]:
        # A thread gives up the interpreter's lock every few milliseconds; called from here the reader would not.
        values = await asyncio.to_thread(parse_body, raw) if len(raw) > SLICE_BYTES else parse_body(raw)
        if not isinstance(values, list):
            raise invalid("", "list_type", f"must be an array of {self.noun}, or lines of them as {NDJSON}")
        self._refuse_too_many(len(values))
        step = max(1, min(SLICE_OBJECTS, SLICE_BYTES * len(values) // max(len(raw), 1)))
        for start in range(0, len(values), step):
            yield values[start : start + step]
            await asyncio.sleep(0)

    async def _of_lines(self, raw: bytes, problems: list[Problem]) -> AsyncIterator[Sequence[Any]]:
        self._refuse_too_many(raw.count(b"\n") // 2)  # every other line may be blank; megabytes of blank lines not
        lines = [line for line in raw.split(b"\n") if line.strip()]
        self._refuse_too_many(len(lines))
        values: list[Any] = []
        size = 0
        for index, line in enumerate(lines):
            try:
                values.append(parse(line))
            except JsonTextError as error:
                problems.append(
                    Problem(join(str(index), error.path) if error.path else str(index), "invalid_json", error.message)
                )
                values.append(UNREADABLE)
            size += len(line)
            if len(values) >= SLICE_OBJECTS or size >= SLICE_BYTES:
                yield values
                values, size = [], 0
                await asyncio.sleep(0)
        yield values

    def _refuse_too_many(self, count: int) -> None:
        if count > self.most:
            raise TooMuchError(f"The batch holds {count:,} {self.noun}; the most is {self.most:,}.")
