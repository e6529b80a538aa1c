"""Exact JSON: a number is written with the text that was read.

The standard reader converts `12345678901234567890.10` to a float, drops the first of two equal keys and accepts `NaN`.
This module preserves or refuses such values, and writes with orjson, which is fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, Never, TypeAlias

import orjson

MAX_NESTING = 64
"""Maximum depth of nested containers. Payloads of the platform nest 8 deep; each level costs stack in every reader."""

MAX_DIGITS = 1_000
"""Maximum digits of a number, written without an exponent: `1E+999999999` is eleven bytes here, a gigabyte written out.
PostgreSQL, Python and receivers refuse longer ones, each from another length on. A double reaches 308 digits."""

MAX_STEP = 100
"""Maximum length of a key in a path: a key may be as long as a body, an answer that names it must be short."""

_EXPONENT_DIGITS = len(str(MAX_DIGITS))
_TOO_LONG = f"the number has more than {MAX_DIGITS:,} digits"
_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 19
WIDE = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Context in which no number is rounded."""

_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = len("-Infinity")  # an escape is shorter
_SPLITTER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
"""Decoder that finds the end of a value. Its numbers are meaningless, and cheap however long they are."""
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_REFUSED_CHARACTER = re.compile("[\x00\ud800-\udfff]")


class Number(Decimal):
    """A JSON number that remembers its text, so that `10.10` stays `10.10` and `1E+2` stays `1E+2`.

    Compares and calculates by value, as Decimal does; results of arithmetic are plain Decimals.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.text,)

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: Any) -> Number:
        return self


JsonValue: TypeAlias = "bool | int | Number | str | list[JsonValue] | dict[str, JsonValue] | None"


class JsonTextError(ValueError):
    """A text that is not JSON in the accepted form. `path` is dotted, and empty for the whole text."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path


class _Flaw:
    """Marker of a refused part in the parsed value, until its path is known.

    The reader calls its hooks from the inside out, without the path.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class _Reader:
    """Standard library's scanner (in C) with hooks for the texts that it would accept. For one reading at a time."""

    def __init__(self) -> None:
        self.flawed = False
        """True if the last reading left a _Flaw."""
        self._decoder = json.JSONDecoder(
            parse_int=self._integer,
            parse_float=self._number,
            parse_constant=self._constant,
            object_pairs_hook=self._object,
        )

    def read(self, text: str) -> Any:
        self.flawed = False
        return self._decoder.decode(text)

    def _flaw(self, message: str) -> _Flaw:
        self.flawed = True
        return _Flaw(message)

    def _integer(self, text: str) -> Any:
        if len(text) < _INT64_DIGITS and text != "-0":
            return int(text)
        if text != "-0" and len(text) <= _INT64_DIGITS + 1 and (whole := int(text)) in _INT64:
            return whole
        return self._exact(text)

    def _exact(self, text: str) -> Any:
        if len(text) > MAX_DIGITS and sum(map(str.isdigit, text)) > MAX_DIGITS:
            return self._flaw(_TOO_LONG)
        return Number(text)

    def _number(self, text: str) -> Any:
        exponent = text.partition("e" if "e" in text else "E")[2].lstrip("+-").lstrip("0")
        if len(exponent) > _EXPONENT_DIGITS:
            return self._flaw(_TOO_LONG)
        number = self._exact(text)
        if exponent and isinstance(number, Number) and digits_written_out(number) > MAX_DIGITS:
            return self._flaw(_TOO_LONG)
        return number

    def _constant(self, name: str) -> Any:
        return self._flaw(f"{name} is not a JSON number")

    def _object(self, pairs: list[tuple[str, Any]]) -> Any:
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                members[key] = self._flaw("the key is given twice")
            seen.add(key)
        return members


_IDLE_READERS: list[_Reader] = []
"""Readers for reuse: creating one takes 2 µs, as long as reading a small event. Each reading removes one, since threads
read concurrently; a failed reading does not return it."""


def parse(raw: bytes) -> JsonValue:
    """Read one JSON text exactly.

    Whole numbers that fit in 64 bits become `int`, except `-0`, which would lose its sign; all other numbers become
    `Number`. Raises JsonTextError for a text that is not JSON in UTF-8, and for NaN and Infinity, repeated keys, lone
    surrogates, U+0000, a byte order mark, more than MAX_NESTING levels and numbers of more than MAX_DIGITS digits.
    """
    if raw.startswith(_BOM):
        raise JsonTextError("starts with a byte order mark; send UTF-8 without one")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonTextError(f"is not UTF-8 at byte {error.start}") from None
    try:
        reader = _IDLE_READERS.pop()
    except IndexError:
        reader = _Reader()
    try:
        value = reader.read(text)
    except json.JSONDecodeError as error:
        raise _no_json(error) from None
    except RecursionError:
        _refuse_nesting()
    flawed = reader.flawed
    _IDLE_READERS.append(reader)
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING:
        _check_nesting(value)
    if flawed or _SUSPECT_ESCAPE.search(raw):
        _check_flaws(value)
    return value  # type: ignore[no-any-return]


def entries(raw: bytes, longest: int) -> Iterator[bytes]:
    """Yield the text of each entry of an array, whose bracket is the first of `raw`, for `parse` to read.

    The scanner sees little more than `longest` bytes at a time. Of a longer entry, only a beginning of more than
    `longest` bytes is yielded. Raises JsonTextError.
    """
    text = raw.decode("latin-1")  # a character for each byte; those above ASCII are parts of strings
    window, begin = "", 0
    at = _space_end(text, text.index("[") + 1)
    separator = "," if text[at : at + 1] != "]" else "]"
    while separator == ",":
        if at + longest >= begin + len(window):
            begin, window = at, text[at : at + longest + longest // 4 + 1]
        try:
            end = begin + _SPLITTER.raw_decode(window, at - begin)[1]
        except RecursionError:
            _refuse_nesting()
        except json.JSONDecodeError as error:
            end = begin + len(window)
            cut = error.msg.startswith("Unterminated") or begin + error.pos > end - _LONGEST_TOKEN
            if end == len(text) or not cut:
                raise _no_json(json.JSONDecodeError(error.msg, text, begin + error.pos)) from None
        yield raw[at:end]
        at = _space_end(text, end)
        separator = text[at : at + 1]
        if separator not in (",", "]"):
            raise _no_json(json.JSONDecodeError("Expecting ',' delimiter", text, at))
        at = _space_end(text, at + (separator == ","))
    if (rest := _space_end(text, at + 1)) < len(text):
        raise _no_json(json.JSONDecodeError("Extra data", text, rest))


def _space_end(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches no space, too


def _no_json(error: json.JSONDecodeError) -> JsonTextError:
    return JsonTextError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")


def _refuse_nesting() -> Never:
    raise JsonTextError(f"nests deeper than {MAX_NESTING} levels")


def _check_nesting(value: Any) -> None:
    """Raise if containers nest too deep. Walks level by level, because the limit protects recursive readers."""
    level = [value]
    for _ in range(MAX_NESTING):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent if type(parent) is list else ())
            if type(child) in (dict, list)
        ]
        if not level:
            return
    _refuse_nesting()


def _check_flaws(value: Any) -> None:
    """Raise for a flaw that the reader marked and for refused characters, with the path."""
    found = _first_flaw(value)
    if found is not None:
        message, steps = found
        path = ""
        for step in reversed(steps):
            path = join(path, step)
        raise JsonTextError(message, path)


def _first_flaw(value: Any) -> tuple[str, list[str | int]] | None:
    """Return the first flaw's message and its path, innermost step first. The depth has been limited to MAX_NESTING."""
    if isinstance(value, _Flaw):
        return value.message, []
    if isinstance(value, str):
        return _flaw_of_text(value)
    children: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for step, child in children:
        if isinstance(step, str) and (flaw := _flaw_of_text(step)):
            return flaw
        if found := _first_flaw(child):
            found[1].append(step)
            return found
    return None


def _flaw_of_text(text: str) -> tuple[str, list[str | int]] | None:
    character = _REFUSED_CHARACTER.search(text)
    if character is None:
        return None
    what = "U+0000" if character[0] == "\x00" else "a lone surrogate"
    return f"holds {what}, which no text may hold", []


def join(path: str, step: str | int) -> str:
    """Append a step to a dotted path: `join("items", 0)` is `items.0`. A step longer than MAX_STEP is cut with `…`."""
    if isinstance(step, str) and len(step) > MAX_STEP:
        step = f"{step[:MAX_STEP]}…"
    return f"{path}.{step}" if path else str(step)


def dump(value: JsonValue) -> str:
    """Write compact JSON: keys in the order given, UTF-8 unescaped, each Number by its own text. Raises TypeError for a
    value that is not a JsonValue. A Decimal is accepted too; `parse` never returns a float."""
    return dump_bytes(value).decode()


def dump_bytes(value: JsonValue) -> bytes:
    """Write compact JSON like `dump`, as UTF-8 bytes."""
    return orjson.dumps(value, default=_fragment)


def pretty(text: str) -> str:
    """Return the JSON text with a line for each value, numbers and keys unchanged. Raises JsonTextError."""
    return orjson.dumps(parse(text.encode()), default=_fragment, option=orjson.OPT_INDENT_2).decode()


def _fragment(value: Any) -> orjson.Fragment:
    if type(value) is Number:
        return orjson.Fragment(value.text)
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def digits_written_out(value: Decimal) -> int:
    """Return the number of digits of a finite number written without an exponent."""
    digits = len(value.as_tuple().digits)
    exponent = value.adjusted() - digits + 1
    return digits + exponent if exponent >= 0 else max(digits, 1 - exponent)


def canonical(value: JsonValue) -> bytes:
    """Return equal bytes for equal values: keys sorted, numbers by value (10.10, 10.1 and 1.01E1 are equal)."""
    return orjson.dumps(value, default=_canonical_fragment, option=orjson.OPT_SORT_KEYS)


def _canonical_fragment(value: Any) -> orjson.Fragment:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not a JSON value")
    if not value:
        return orjson.Fragment("0")
    # Ints reach orjson directly, so a Number of the same value has to be written as the int would be.
    if value.adjusted() < _INT64_DIGITS and value == value.to_integral_value() and (whole := int(value)) in _INT64:
        return orjson.Fragment(str(whole))
    return orjson.Fragment(str(value.normalize(WIDE)))


def differences(a: JsonValue, b: JsonValue) -> list[str]:
    """Return the dotted paths at which two values differ, in the order of `a`, then the paths of `b` alone. Numbers are
    compared by value. The path of the whole value is the empty string."""
    return list(_differences(a, b, ""))


def _differences(a: Any, b: Any, path: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b:
                yield from _differences(a[key], b[key], join(path, key))
            else:
                yield join(path, key)
    elif isinstance(a, list) and isinstance(b, list):
        for index in range(max(len(a), len(b))):
            if index < len(a) and index < len(b):
                yield from _differences(a[index], b[index], join(path, index))
            else:
                yield join(path, index)
    elif _kind(a) is not _kind(b) or a != b:
        yield path


def _kind(value: Any) -> type:
    """Return the JSON type: in Python True equals 1, and in JSON 1 and Number("1.0") are of one type."""
    return Decimal if type(value) is int or isinstance(value, Decimal) else type(value)
