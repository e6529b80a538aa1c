"""Strict YAML reader that records the line of every value for error messages.

Plain scalars are text, except `true`, `false`, `null`, `~` and whole numbers: `yes`, `1:30` and dates, which YAML 1.1
converts, stay text. Refuses tags, duplicate keys and keys that are not text. Resolves aliases within bounds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

Value: TypeAlias = "bool | int | str | list[Value] | dict[str, Value] | None"

MOST_VALUES = 200_000
"""Maximum number of values. A store has some 10,000; nested aliases would expand to billions."""

MOST_DEPTH = 16

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _TEXT = (_TAG + name for name in ("null", "bool", "int", "str"))
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")  # a longer number stays text and fails validation later


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - declared by the base class
        "": [(_NULL, re.compile(r"\Z"))],
        "~": [(_NULL, re.compile(r"~\Z"))],
        "n": [(_NULL, re.compile(r"null\Z"))],
        "t": [(_BOOL, re.compile(r"true\Z"))],
        "f": [(_BOOL, re.compile(r"false\Z"))],
        **{first: [(_INT, _WHOLE)] for first in "-0123456789"},
    }


class DocumentError(Exception):
    """The document cannot be read. `line` counts from 1 and is None if it is unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Document:
    """Value of a document, with the line of each nested value by dotted path."""

    value: Value
    lines: Mapping[str, int] = field(repr=False)

    def line(self, path: str) -> int:
        """Return the line of the value at this path, or of its nearest existing parent."""
        while path not in self.lines:
            path = path.rpartition(".")[0]
        return self.lines[path]


def read_document(raw: bytes) -> Document:
    """Read the single document in these UTF-8 bytes. Raises DocumentError."""
    try:
        node = yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8", raw[: error.start].count(b"\n") + 1) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(filter(None, (error.context, error.problem)))
        raise DocumentError(message, None if mark is None else mark.line + 1) from error
    except yaml.YAMLError as error:
        raise DocumentError(str(error).partition("\n")[0]) from error
    except (ValueError, OverflowError):
        raise DocumentError("holds an escape sequence that is not a character") from None
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    reading = _NodeReader()
    return Document(None if node is None else reading.value(node, "", _line(node)), reading.lines | {"": 1})


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line + 1
    return line


class _NodeReader:
    """Converter of nodes to values."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}

    def value(self, node: yaml.Node, path: str, line: int, depth: int = 0) -> Value:
        """Return the node's value. `line` is the line of its key, or of the node if it has no key."""
        if depth > MOST_DEPTH or len(self.lines) >= MOST_VALUES:
            raise DocumentError("is too large or too deeply nested, or has recursive aliases", line)
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [
                self.value(item, f"{path}.{index}".lstrip("."), _line(item), depth + 1)
                for index, item in enumerate(node.value)
            ]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key, line = _key(key_node), _line(key_node)
            if key in found:
                raise DocumentError(f"duplicate key {key!r}", line)
            found[key] = self.value(value_node, f"{path}.{key}".lstrip("."), line, depth + 1)
        return found


def _key(node: yaml.Node) -> str:
    key = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, str):
        raise DocumentError("a key must be text; quote it", _line(node))
    return key


def _scalar(node: yaml.Node) -> Value:
    text = str(node.value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DocumentError("holds half of a surrogate pair", _line(node))
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL and text in ("true", "false"):
        return text == "true"
    if node.tag == _INT and _WHOLE.match(text):
        return int(text)
    if node.tag == _TEXT:
        return text
    raise DocumentError(f"{node.tag.removeprefix(_TAG)} is not supported", _line(node))
