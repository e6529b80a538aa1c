"""Batches: many objects in one body, as a JSON array or NDJSON, processed in slices.

Parsing and validation are CPU work. The event loop runs other requests between two slices, and the size of an object is
bounded before it is parsed, so that a body of 8 MB does not delay a concurrent single call.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from api.body import JSON, DocumentedBody, M, refuse_many_values
from api.errors import MOST_PROBLEMS, Problem, TooLarge, invalid
from domain.wire.jsontext import JsonTextError, entries, join, parse

NDJSON = "application/x-ndjson"

SLICE_OBJECTS = 25
"""Maximum number of objects per slice: about 1 ms of validation between two iterations of the event loop."""

SLICE_BYTES = 128 * 1024
"""Maximum size of a slice. Has the same purpose where objects are large."""


def is_ndjson(request: Request) -> bool:
    """Return True if the content type of the body is NDJSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON


@dataclass(frozen=True, eq=False)
class DocumentedBatch(DocumentedBody[M]):
    """Base of dependencies that read a batch, documented as at most `most` objects of `model`, array or NDJSON."""

    noun: str = field(kw_only=True)
    most: int | None = field(default=None, kw_only=True)

    def request_body(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the OpenAPI request body, of models with this schema."""
        array: dict[str, Any] = {"type": "array", "items": schema, "minItems": 1}
        if self.most is not None:
            array["maxItems"] = self.most
        lines = {"type": "string", "description": f"One {self.noun} per line, as in the array."}
        return {"required": True, "content": {JSON: {"schema": array}, NDJSON: {"schema": lines}}}


@dataclass(frozen=True, slots=True)
class Batch:
    """Reader of batches: at most `most` objects, each of at most `most_bytes`. `noun` is the name of one."""

    most: int
    most_bytes: int
    noun: str

    async def objects(self, raw: bytes, *, lines: bool, problems: list[Problem]) -> AsyncIterator[tuple[int, Any]]:
        """Yield index and value of each object, until a slice ends with MOST_PROBLEMS in `problems`.

        An object that is not JSON is added to `problems` instead; blank lines are skipped and not counted. Raises
        ValidationFailed and TooLarge.
        """
        objects = size = 0
        try:
            for index, text in enumerate(self._lines(raw) if lines else self._entries(raw)):
                if index >= self.most:
                    raise TooLarge(f"The batch has more than {self.most:,} {self.noun}s.")
                if len(text) > self.most_bytes:
                    raise TooLarge(f"The {self.noun} {index} is larger than {self.most_bytes:,} bytes.")
                refuse_many_values(text, f"The {self.noun} {index}")
                try:
                    value = parse(text)
                except JsonTextError as error:
                    path = join(str(index), error.path) if error.path else str(index)
                    problems.append(Problem(path, "invalid_json", error.message))
                else:
                    yield index, value
                objects, size = objects + 1, size + len(text)
                if objects >= SLICE_OBJECTS or size >= SLICE_BYTES:
                    if len(problems) >= MOST_PROBLEMS:
                        return
                    await asyncio.sleep(0)
                    objects = size = 0
        except JsonTextError as error:  # of the array
            raise invalid("", "invalid_json", error.message) from error

    def _lines(self, raw: bytes) -> Iterator[bytes]:
        if raw.count(b"\n") > 2 * self.most:  # as many blank lines as objects are allowed, megabytes of them are not
            raise TooLarge(f"The batch has more than {self.most:,} {self.noun}s, or blank lines.")
        return (line for line in raw.split(b"\n") if line.strip())

    def _entries(self, raw: bytes) -> Iterator[bytes]:
        if not raw.lstrip()[:1] == b"[":
            raise invalid("", "list_type", f"must be an array of {self.noun}s, or lines of them as {NDJSON}")
        return entries(raw, self.most_bytes)
