"""Expiry files, CSV with a header or NDJSON: each record is a row or a rejection. Import of a file.

The position after each chunk is a byte offset, so that an interrupted import resumes exactly there. A chunk is imported
in one transaction together with the progress. The rejects file is written and synced before the chunk's commit, which
records the file's length. After an interruption, the import truncates the rejects of an uncommitted chunk, so that no
reject is lost or repeated.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from domain.expiry.rows import Kind, Row
from domain.wire.jsontext import JsonTextError, parse
from storage.database import Database
from storage.expiry.file_import import ImportKey, ImportState, advance_import, begin_import, copy_records, finish_import
from storage.expiry.rows import RELATIONS, newest, records_of
from storage.sealing import Sealer

LONGEST_LINE_BYTES = 1 << 20
"""Maximum length of a line. A row has at most some 30 KB; a longer line is rejected without reading it as a whole."""

CHUNK_ROWS = 5_000
"""Rows of a chunk. Some 300 ms of work, which is repeated after a crash."""

REJECTS_HEADER = ("line", "reason")
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)(?:([zZ])|([+-]\d\d)(?::?(\d\d))?)", re.ASCII)
_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
TRIMMED_TYPES = frozenset({"numeric", "boolean", "timestamptz", "uuid"})
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of such a row",
    "model_type": "must be an object",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
}


class FileFormat(StrEnum):
    """Format of an expiry file."""

    CSV = "csv"
    NDJSON = "ndjson"


class FileUnusableError(Exception):
    """The file as a whole cannot be used. The message names the cause."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected record: its first line (from 1) and the reason, without any of its values."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the file. `position` is the byte offset after it, `line` the number of lines up to there."""

    rows: list[Row]
    rejected: list[Rejected]
    position: int
    line: int


class ExpiryFile:
    """Reader of one file from the beginning of `stream`. Raises FileUnusableError for an invalid header."""

    def __init__(self, stream: BinaryIO, kind: Kind, format_: FileFormat, delimiter: str = ",") -> None:
        self._stream = stream
        self._model = RELATIONS[kind].model
        self._types = {
            field.alias or name: RELATIONS[kind].columns.get(name, "text")
            for name, field in self._model.model_fields.items()
        }
        self._format = format_
        self._delimiter = delimiter
        self._position = 0
        self._line = 0
        self._at_line_start = True
        self._columns: Sequence[str] = ()
        if format_ is FileFormat.CSV:
            self._columns = self._header()
        self._records = self._read()

    def go_to(self, position: int, line: int) -> None:
        """Resume after a chunk that was read before."""
        self._stream.seek(position)
        self._position, self._line, self._at_line_start = position, line, True
        self._records = self._read()

    def chunk(self, most: int) -> Chunk:
        """Return the next records, `most` at most. An empty chunk marks the end of the file."""
        outcomes = list(islice(self._records, most))
        rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Rejected)]
        return Chunk(rows, rejected, self._position, self._line)

    def _header(self) -> list[str]:
        try:
            cells = next(self._csv(), [])
        except csv.Error as error:
            raise FileUnusableError(f"the first line is not a CSV header: {error}") from None
        names = [_camel(cell.removeprefix("\ufeff").strip()) for cell in cells]
        required = [field.alias or "" for field in self._model.model_fields.values() if field.is_required()]
        unknown = [name for name in names if name not in self._types]
        repeated = sorted({name for name in names if names.count(name) > 1})
        missing = sorted(name for name in required if name not in names)
        if unknown:
            raise FileUnusableError(
                f"the header has unknown columns: {', '.join(map(repr, unknown))}; "
                f"known columns: {', '.join(self._types)}"
            )
        if repeated:
            raise FileUnusableError(f"the header repeats columns: {', '.join(repeated)}")
        if missing:
            raise FileUnusableError(f"the header lacks columns: {', '.join(missing)}")
        return names

    def _csv(self) -> Iterator[list[str]]:
        """Yield the cells of records. Invalid UTF-8 becomes surrogates, which are rejected later."""
        texts = (raw.decode("utf-8", "surrogateescape") for raw in self._lines())
        return csv.reader(texts, delimiter=self._delimiter)

    def _lines(self) -> Iterator[bytes]:
        while raw := self._next_line():
            self._position += len(raw)
            self._line += self._at_line_start
            self._at_line_start = raw.endswith(b"\n")
            yield raw

    def _next_line(self) -> bytes:
        try:
            return self._stream.readline(LONGEST_LINE_BYTES)
        except OSError as error:
            raise FileUnusableError(f"cannot be read after line {self._line}: {error.strerror}") from error

    def _read(self) -> Iterator[Row | Rejected]:
        return self._read_csv() if self._format is FileFormat.CSV else self._read_ndjson()

    def _read_csv(self) -> Iterator[Row | Rejected]:
        reader = self._csv()
        while True:
            first = self._line + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejected(first, f"is not CSV up to line {self._line}, a quote may be left open: {error}")
                continue
            if not cells:
                continue
            try:
                if len(cells) != len(self._columns):
                    raise ValueError(f"has {len(cells)} cells, not {len(self._columns)}")
                named = zip(self._columns, cells, strict=True)
                values = {name: _value(cell, self._types[name]) for name, cell in named}
            except ValueError as error:
                yield Rejected(first, f"{error}, up to line {self._line}" if self._line > first else str(error))
            else:
                yield self._row(values, first)

    def _read_ndjson(self) -> Iterator[Row | Rejected]:
        for raw in self._lines():
            line = self._line
            if not self._at_line_start and len(raw) == LONGEST_LINE_BYTES:
                for _ in self._lines():
                    if self._at_line_start:
                        break
                yield Rejected(line, f"is longer than {LONGEST_LINE_BYTES:,} bytes")
                continue
            if not raw.strip():
                continue
            try:
                value = parse(raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw)
            except JsonTextError as error:
                yield Rejected(line, str(error))
            else:
                yield self._row(value, line)

    def _row(self, value: Any, line: int) -> Row | Rejected:
        try:
            return self._model.model_validate(value, by_alias=True, by_name=False)
        except ValidationError as error:
            return Rejected(line, _reasons(error))


def _reasons(error: ValidationError) -> str:
    """Return every problem with its field and without its value, which may be a secret."""
    reasons = []
    for details in error.errors(include_url=False, include_input=False):
        where = ".".join(map(str, details["loc"]))
        what = _WORDS.get(details["type"], details["msg"])
        reasons.append(f"{where}: {what}" if where else what)
    return "; ".join(reasons)


def _camel(name: str) -> str:
    """Convert a database's column name (`expires_at`) to the API's field name (`expiresAt`)."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _value(cell: str, type_: str) -> Any:
    """Convert a cell to its JSON value; an empty cell to None. Raises ValueError. Text that is not a number or flag is
    returned as it is: the row's model rejects it."""
    if not cell:
        return None
    if _UNSTORABLE.search(cell):
        raise ValueError("is not UTF-8, or holds U+0000")
    text = cell.strip()
    if type_ == "numeric":
        with suppress(JsonTextError):
            return parse(text.encode())
    elif type_ == "boolean" and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    elif type_ == "timestamptz" and (match := _DATE_TIME.fullmatch(text)):  # database exports: 2026-03-01 12:00:00+01
        day, time, utc, hours, minutes = match.groups()
        return f"{day}T{time}Z" if utc else f"{day}T{time}{hours}:{minutes or '00'}"
    return text if type_ in TRIMMED_TYPES else cell


class Importer:
    """One import. The file `rejects` exists only if there are rejected lines."""

    def __init__(self, database: Database, sealer: Sealer, key: ImportKey, file: ExpiryFile, rejects: Path) -> None:
        self._database = database
        self._sealer = sealer
        self._key = key
        self._file = file
        self._rejects = rejects

    async def begin(self, *, again: bool) -> ImportState:
        """Return the state to resume from. `again` restarts a file that was begun or finished before."""
        state = await self._database.run(begin_import, self._key, again=again)
        if state.finished_at is None:
            _cut(self._rejects, state.rejects_bytes)
            if state.position_bytes:
                self._file.go_to(state.position_bytes, state.position_line)
        return state

    async def run(self, state: ImportState) -> AsyncGenerator[ImportState, None]:
        """Import from `state` to the end. Yield the state after each chunk. Raises ImportedElsewhereError."""
        while (chunk := self._file.chunk(CHUNK_ROWS)).rows or chunk.rejected:
            after = replace(
                state,
                position_bytes=chunk.position,
                position_line=chunk.line,
                rows=state.rows + len(chunk.rows),
                rejected=state.rejected + len(chunk.rejected),
                rejects_bytes=_append(self._rejects, state.rejects_bytes, chunk.rejected),
            )
            records = records_of(self._key.kind, newest(chunk.rows), self._sealer)
            async with self._database.transaction() as connection:
                written = await copy_records(connection, self._key.store_code, self._key.kind, records)
                after = replace(after, written=state.written + written)
                await advance_import(connection, self._key, state, after)
            state = after
            yield state
        await self._database.run(finish_import, self._key, state)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Translate OSError to FileUnusableError with the file's path, so that it is not taken for a database error."""
    try:
        yield
    except OSError as error:
        raise FileUnusableError(f"{path} cannot be written: {error.strerror}") from error


def _cut(path: Path, length: int) -> None:
    """Truncate the file to its first `length` bytes. Remove it if none remain."""
    with _writing(path):
        if length == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            os.truncate(path, min(length, path.stat().st_size))


def _append(path: Path, before: int, rejected: Sequence[Rejected]) -> int:
    """Append rejects to the file, sync it and return its new length. `before` is the recorded length."""
    if not rejected:
        return before
    text = io.StringIO()
    writer = csv.writer(text)
    if before == 0:
        writer.writerow(REJECTS_HEADER)
    writer.writerows((reject.line, reject.reason) for reject in rejected)
    with _writing(path), path.open("ab") as file:
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
