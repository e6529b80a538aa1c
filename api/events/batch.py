"""Batches: many objects in one body, as a JSON array or NDJSON, processed in slices.

Parsing and validation are CPU work. The event loop runs other requests between two slices, and a large array is parsed
in a thread, so that a body of 8 MB does not delay a concurrent single call.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from api.body import JSON, MOST_PROBLEMS, DocumentedBody, M, parse_body
from api.errors import ApiError, Problem, invalid
from domain.wire.jsontext import JsonTextError, join, parse

NDJSON = "application/x-ndjson"

SLICE_OBJECTS = 25
"""Maximum number of objects per slice: about 1 ms of validation between two iterations of the event loop."""

SLICE_BYTES = 128 * 1024
"""Maximum size of a slice. Has the same purpose where objects are large."""

UNREADABLE = object()
"""Placeholder for a line that is not JSON. It preserves the indexes of the objects after it."""


class TooMuchError(ApiError):
    """413: the batch has too many objects, or an object is too large."""

    status = 413


def is_ndjson(request: Request) -> bool:
    """Return True if the content type of the body is NDJSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON


@dataclass(frozen=True, eq=False)
class DocumentedBatch(DocumentedBody[M]):
    """Base of dependencies that read a batch, documented as at most `most` objects of `model`, array or NDJSON."""

    noun: str = field(kw_only=True)
    most: int | None = field(default=None, kw_only=True)

    def request_body(self, references: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """Return the OpenAPI request body."""
        array: dict[str, Any] = {"type": "array", "items": references[self.model], "minItems": 1}
        if self.most is not None:
            array["maxItems"] = self.most
        lines = {"type": "string", "description": f"One {self.noun} per line, as in the array."}
        return {"required": True, "content": {JSON: {"schema": array}, NDJSON: {"schema": lines}}}


@dataclass(frozen=True, slots=True)
class Batch:
    """Reader of batches. `most` is the maximum number of objects, `noun` their name in the plural."""

    most: int
    noun: str

    async def objects(self, raw: bytes, *, lines: bool, problems: list[Problem]) -> AsyncIterator[tuple[int, Any]]:
        """Yield index and value of each object, until a slice ends with MOST_PROBLEMS in `problems`.

        A line that is not JSON is added to `problems` instead; blank lines are skipped and not counted. Raises
        ValidationFailed and TooMuchError.
        """
        index = 0
        async for values in self._of_lines(raw, problems) if lines else self._of_array(raw):
            for value in values:
                if value is not UNREADABLE:
                    yield index, value
                index += 1
            if len(problems) >= MOST_PROBLEMS:
                break

    async def _of_array(self, raw: bytes) -> AsyncIterator[Sequence[Any]]:
        # In a thread, the parser releases the interpreter lock every few milliseconds. Called here, it would block.
        values = await asyncio.to_thread(parse_body, raw) if len(raw) > SLICE_BYTES else parse_body(raw)
        if not isinstance(values, list):
            raise invalid("", "list_type", f"must be an array of {self.noun}, or lines of them as {NDJSON}")
        self._refuse_too_many(len(values))
        step = max(1, min(SLICE_OBJECTS, SLICE_BYTES * len(values) // max(len(raw), 1)))
        for start in range(0, len(values), step):
            yield values[start : start + step]
            await asyncio.sleep(0)

    async def _of_lines(self, raw: bytes, problems: list[Problem]) -> AsyncIterator[Sequence[Any]]:
        self._refuse_too_many(raw.count(b"\n") // 2)  # allows as many blank lines as objects, not megabytes of them
        lines = [line for line in raw.split(b"\n") if line.strip()]
        self._refuse_too_many(len(lines))
        values: list[Any] = []
        size = 0
        for index, line in enumerate(lines):
            try:
                values.append(parse(line))
            except JsonTextError as error:
                path = join(str(index), error.path) if error.path else str(index)
                problems.append(Problem(path, "invalid_json", error.message))
                values.append(UNREADABLE)
            size += len(line)
            if len(values) >= SLICE_OBJECTS or size >= SLICE_BYTES:
                yield values
                values, size = [], 0
                await asyncio.sleep(0)
        yield values

    def _refuse_too_many(self, count: int) -> None:
        if count > self.most:
            raise TooMuchError(f"The batch has {count:,} {self.noun}; the maximum is {self.most:,}.")
