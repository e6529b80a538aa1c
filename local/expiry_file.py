"""Reader of expiry files: CSV with a header, or NDJSON. Each record is a row or a rejection.

The position after each chunk is a byte offset, so that an interrupted import resumes exactly there.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO

from pydantic import ValidationError

from domain.expiry.rows import Kind, Row
from domain.wire.jsontext import JsonTextError, parse
from storage.expiry.rows import RELATIONS

LONGEST_LINE_BYTES = 1 << 20
"""Maximum length of a line. A row has at most some 30 KB; a longer line is rejected without reading it as a whole."""

_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)(?:([zZ])|([+-]\d\d)(?::?(\d\d))?)", re.ASCII)
_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


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


@dataclass(slots=True)
class Chunk:
    """A part of the file. `position` is the byte offset after it, `line` the number of lines up to there."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    position: int = 0
    line: int = 0


class ExpiryFile:
    """Reader of one file from the beginning of `stream`. Raises FileUnusableError for an invalid header."""

    def __init__(self, stream: BinaryIO, kind: Kind, format_: FileFormat, delimiter: str = ",") -> None:
        self._stream = stream
        self._model = RELATIONS[kind].model
        self._types = {
            model_field.alias or name: RELATIONS[kind].columns.get(name, "text")
            for name, model_field in self._model.model_fields.items()
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
        chunk = Chunk()
        for outcome in islice(self._records, most):
            if isinstance(outcome, Rejected):
                chunk.rejected.append(outcome)
            else:
                chunk.rows.append(outcome)
        chunk.position, chunk.line = self._position, self._line
        return chunk

    def _header(self) -> list[str]:
        try:
            cells = next(csv.reader(self._texts(), delimiter=self._delimiter), [])
        except csv.Error as error:
            raise FileUnusableError(f"the first line is not a CSV header: {error}") from None
        names = [_camel(cell.removeprefix("\ufeff").strip()) for cell in cells]
        required = {model_field.alias for model_field in self._model.model_fields.values() if model_field.is_required()}
        unknown = [name for name in names if name not in self._types]
        repeated = sorted({name for name in names if names.count(name) > 1})
        missing = sorted(name for name in required if name is not None and name not in names)
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

    def _texts(self) -> Iterator[str]:
        """Yield lines for the CSV reader. Invalid UTF-8 becomes surrogates, which are rejected later."""
        for raw in self._lines():
            yield raw.decode("utf-8", "surrogateescape")

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
        reader = csv.reader(self._texts(), delimiter=self._delimiter)
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
            if len(cells) != len(self._columns):
                yield Rejected(first, f"has {len(cells)} cells, not {len(self._columns)}{self._up_to(first)}")
                continue
            try:
                values = {
                    name: _value(cell, self._types[name]) for name, cell in zip(self._columns, cells, strict=True)
                }
            except ValueError as error:
                yield Rejected(first, f"{error}{self._up_to(first)}")
                continue
            yield self._row(values, first)

    def _up_to(self, first: int) -> str:
        return f", up to line {self._line}" if self._line > first else ""

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
                continue
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


_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of such a row",
    "model_type": "must be an object",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
}


def _camel(name: str) -> str:
    """Convert a database's column name (`expires_at`) to the API's field name (`expiresAt`)."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _value(cell: str, type_: str) -> Any:
    """Convert a cell to its JSON value; an empty cell to None. Raises ValueError."""
    if not cell:
        return None
    if _UNSTORABLE.search(cell):
        raise ValueError("is not UTF-8, or holds U+0000")
    read = _READERS.get(type_)
    return cell if read is None else read(cell.strip())


def _number(text: str) -> Any:
    try:
        return parse(text.encode())
    except JsonTextError:
        return text  # the row's model rejects it as not a number


def _flag(text: str) -> bool | str:
    word = text.lower()
    return word in _TRUE if word in _TRUE | _FALSE else text


def _date_time(text: str) -> str:
    """Convert the format of database exports (`2026-03-01 12:00:00+01`) to the API's; return other text unchanged."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return text
    day, time, utc, hours, minutes = match.groups()
    return f"{day}T{time}Z" if utc else f"{day}T{time}{hours}:{minutes or '00'}"


_READERS: Mapping[str, Callable[[str], Any]] = {
    "numeric": _number,
    "boolean": _flag,
    "timestamptz": _date_time,
    "uuid": str,
}
