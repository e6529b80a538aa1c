"""Subscriptions file of a store: reads YAML, validates its form, resolves references to secrets.

    version: 1
    store: default                     # optional: the file is for this store alone
    subscriptions:
      - eventName: CustomerRegistered
        name: CRM
        url: https://crm.example.com/webhooks
        headers:
          - headerName: Authorization
            headerValue: {fromEnv: CRM_AUTHORIZATION}

The fields of an entry are those of the API, which validates them. This module only makes sure that the file holds no
secret. docs/subscriptions-file.md describes the format for users.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands.subscriptions.yaml_document import Document, DocumentError, Value, read_document
from domain.wire.headers import VALUE_MOST_CHARACTERS
from storage.access.audit import MASK

VERSION = 1
MOST_BYTES = 8 * 1024 * 1024
"""Maximum size of the file, equal to the API's limit of a request body."""

STANDARD_INPUT = Path("-")
FIELDS = ("version", "store", "subscriptions")
FORMS = "{fromEnv: NAME}, {fromFile: PATH} or {keep: true}"


class FileRefused(Exception):  # noqa: N818 - reads as what happened
    """The file has errors: `complaints`, one line each, with file and line."""

    def __init__(self, complaints: Iterable[str]) -> None:
        self.complaints = list(complaints)
        super().__init__("\n".join(self.complaints))


class _Wrong(Exception):  # noqa: N818 - reads as what happened
    """One value is invalid. The message never holds a secret."""


@dataclass(frozen=True)
class SubscriptionFile:
    """Valid subscriptions file. `entries` are in the API's format, with the real secrets."""

    name: str
    document: Document
    store: str | None
    entries: list[Value]

    def complaint(self, path: str, message: str) -> str:
        """Return the message for an error at this path of the file, with its line."""
        where = f"{self.name}:{self.document.line(path)}"
        return f"{where}: {path}: {message}" if path else f"{where}: {message}"


def read_subscription_file(path: Path, raw: bytes, environment: Mapping[str, str] = os.environ) -> SubscriptionFile:
    """Read a file with the content `raw`. `fromFile` is relative to the directory of `path`. Raises FileRefused."""
    name = "standard input" if path == STANDARD_INPUT else str(path)
    if len(raw) > MOST_BYTES:
        raise FileRefused([f"{name}: has more than {MOST_BYTES:,} bytes"])
    try:
        document = read_document(raw)
    except DocumentError as error:
        raise FileRefused([f"{name}{'' if error.line is None else f':{error.line}'}: {error}"]) from None
    reading = _SetFileReader(path.parent, environment)
    entries, store = reading.file(document.value)
    file = SubscriptionFile(name, document, store, entries)
    if reading.wrong:
        raise FileRefused(file.complaint(where, message) for where, message in reading.wrong)
    return file


class _SetFileReader:
    """Reader that collects all errors of the file."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.wrong: list[tuple[str, str]] = []
        self._directory = directory
        self._environment = environment

    def file(self, value: Value) -> tuple[list[Value], str | None]:
        """Return entries and store."""
        if not isinstance(value, dict):
            self.wrong.append(("", f"must hold {', '.join(FIELDS)}"))
            return [], None
        version = value.get("version")
        if type(version) is not int or version != VERSION:
            newer = type(version) is int and version > VERSION
            cure = "; a newer loyalty-webhooks reads this file" if newer else ""
            self.wrong.append(("version", f"must be {VERSION}{cure}"))
            if newer:
                return [], None  # fields that are unknown here may be valid in the newer version
        self.wrong += [(name, "unknown field") for name in value if name not in FIELDS]
        store = value.get("store")
        if "store" in value and (not isinstance(store, str) or not store):
            self.wrong.append(("store", "must be a store code"))
        entries = value.get("subscriptions")
        if not isinstance(entries, list):
            self.wrong.append(("subscriptions", "must be a list; an empty one is []"))
            return [], None
        found = [self._entry(entry, f"subscriptions.{index}") for index, entry in enumerate(entries)]
        return found, store if isinstance(store, str) else None

    def _entry(self, entry: Value, path: str) -> Value:
        if not isinstance(entry, dict):
            self.wrong.append((path, "must be a subscription, as eventName: …, name: …, url: …"))
            return entry
        headers = entry.get("headers")
        if not isinstance(headers, list):
            return entry
        return {**entry, "headers": [self._header(header, f"{path}.headers.{n}") for n, header in enumerate(headers)]}

    def _header(self, header: Value, path: str) -> Value:
        if not isinstance(header, dict) or "headerValue" not in header:
            return header
        try:
            return {**header, "headerValue": self._secret(header["headerValue"])}
        except _Wrong as wrong:
            self.wrong.append((f"{path}.headerValue", str(wrong)))
            return header

    def _secret(self, reference: Value) -> str:
        if not isinstance(reference, dict):
            raise _Wrong(f"the file never holds a header value; name its source: {FORMS}")
        match list(reference.items()):
            case [("keep", True)]:
                return MASK
            case [("fromEnv", str(name))] if name:
                return _usable(self._environment.get(name), f"the environment variable {name}")
            case [("fromFile", str(name))] if name:
                return _usable(self._content(name), name)
        raise _Wrong(f"must be one of {FORMS}")

    def _content(self, name: str) -> str:
        try:
            with (self._directory / Path(name).expanduser()).open("rb") as file:
                raw = file.read(VALUE_MOST_CHARACTERS + 2)  # plus a line ending
        except (OSError, ValueError) as error:
            raise _Wrong(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise _Wrong(f"{name} is not UTF-8") from None
        return text.removesuffix("\n").removesuffix("\r")


def _usable(value: str | None, source: str) -> str:
    """Return the secret. An empty source is an error: it was probably forgotten."""
    if value is None:
        raise _Wrong(f"{source} is not set")
    if not value.strip():
        raise _Wrong(f"{source} is empty")
    if value == MASK:
        raise _Wrong(f"{source} holds {MASK}, the mask of a stored value; {{keep: true}} keeps the stored value")
    return value


def written_paths(problems: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (path, message) of the API's errors, reworded where the API names a field that the file does not have."""
    return [
        (
            str(problem.get("path", "")),
            "this header has no stored value to keep; provide one with fromEnv or fromFile"
            if problem.get("code") == "masked_value"
            else str(problem.get("message", "")),
        )
        for problem in problems
    ]
