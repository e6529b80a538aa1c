"""Subscriptions file of a store: reads YAML, validates its form, resolves references to secrets, and exports.

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

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from api.subscription_sets.models import StoredSubscription
from commands.subscriptions.yaml_document import Document, DocumentError, Value, read_document
from commands.terminal import STANDARD_INPUT
from domain.wire.authentication import SECRETS
from domain.wire.client_certificate import PEM_MOST_CHARACTERS
from domain.wire.excerpts import MASK, printable

VERSION = 1
MOST_BYTES = 8 * 1024 * 1024
"""Maximum size of the file, equal to the API's limit of a request body."""

FIELDS = ("version", "store", "subscriptions")
FORMS = "{fromEnv: NAME}, {fromFile: PATH} or {keep: true}"

PLAIN = re.compile(r"(?!(?i:true|false|null|yes|no|on|off|y|n)\Z)[^\W\d_](?:[\w./?=&%+@~()-]|:(?=[\w/])| (?=[\w(]))*")
"""Text that YAML reads as itself without quotes. Begins with a letter; a colon or space must not end the scalar."""

HEAD = """\
# The webhook subscriptions of store {store}, written by `loyalty-webhooks subscriptions export`.
#
#   loyalty-webhooks subscriptions diff FILE     shows the differences between store and file
#   loyalty-webhooks subscriptions apply FILE    applies the file to the store in one transaction
#
# Event and name identify the subscription of an entry, or an id if they are ambiguous. Omitted fields have their
# default. Secrets are never in the file: {{keep: true}} keeps the stored value, {{fromEnv: NAME}} and
# {{fromFile: PATH}} name the source of a new one. Only the store creates signing keys.
version: {version}
store: {store_text}
"""


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
            self.wrong.append((path, "must be a webhook, as eventName: …, name: …, url: …"))
            return entry
        read, headers = dict(entry), entry.get("headers")
        if isinstance(headers, list):
            read["headers"] = [
                self._secrets(header, ("headerValue",), f"{path}.headers.{n}") for n, header in enumerate(headers)
            ]
        if "authentication" in entry:
            read["authentication"] = self._secrets(entry["authentication"], SECRETS, f"{path}.authentication")
        return read

    def _secrets(self, value: Value, names: Iterable[str], path: str) -> Value:
        """Return the value with these of its fields replaced by the secrets they refer to."""
        if not isinstance(value, dict):
            return value
        read = dict(value)
        for name in (name for name in value if name in names):
            try:
                read[name] = self._secret(value[name])
            except _Wrong as wrong:
                self.wrong.append((f"{path}.{name}", str(wrong)))
        return read

    def _secret(self, reference: Value) -> str:
        if not isinstance(reference, dict):
            raise _Wrong(f"the file never holds a secret; name its source: {FORMS}")
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
                raw = file.read(PEM_MOST_CHARACTERS + 2)  # plus a line ending
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


def export_text(store: str, subscriptions: Sequence[StoredSubscription]) -> str:
    """Return a store's subscriptions as a file for `subscriptions apply`: the same state gives the same text."""
    head = HEAD.format(store=store, version=VERSION, store_text=_text(store))
    if not subscriptions:
        return head + "subscriptions: []\n"
    names = Counter((subscription.event_name, subscription.name) for subscription in subscriptions)
    lines = ["subscriptions:"]
    for subscription in subscriptions:
        by_name = subscription.name is not None and names[subscription.event_name, subscription.name] == 1
        for number, line in enumerate(_entry(subscription, by_name=by_name)):
            lines.append(f"  {'  ' if number else '- '}{line}")
    return head + "\n".join(lines) + "\n"


def _entry(subscription: StoredSubscription, *, by_name: bool) -> Iterator[str]:
    """Yield the lines of one entry, without fields at their default."""
    yield f"eventName: {_text(subscription.event_name)}"
    if subscription.name is not None:
        yield f"name: {_text(subscription.name)}"
    if not by_name:
        why = "it has no name" if subscription.name is None else "others have this event and name"
        yield f"webhookSubscriptionId: {subscription.webhook_subscription_id}  # {why}"
    yield f"url: {_text(subscription.url)}"
    if subscription.legacy:
        yield "legacy: true"
    if subscription.headers:
        yield "headers:"
        for header in subscription.headers:
            yield f"  - headerName: {_text(header.header_name)}"
            yield "    headerValue: {keep: true}"
    if subscription.authentication is not None:
        yield "authentication:"
        for name, value in subscription.authentication.items():
            yield f"  {name}: {'{keep: true}' if name in SECRETS else _text(value)}"
    if subscription.hmac_enabled:
        yield "hmacEnabled: true"
    if subscription.active_from is not None:
        yield f"activeFrom: {subscription.active_from.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"
    others = (
        ("rateLimitPerSecond", subscription.rate_limit_per_second, None),
        ("maxConcurrency", subscription.max_concurrency, None),
        ("timeoutSeconds", subscription.timeout_seconds, None),
        ("ordered", "true" if subscription.ordered else None, None),
        ("orderKey", subscription.order_key, "subscription"),
        ("afterExhausted", subscription.after_exhausted, "skip"),
    )
    yield from (f"{name}: {value}" for name, value, default in others if value != default)
    if subscription.retry_schedule is not None:
        yield f"retrySchedule: [{', '.join(map(str, subscription.retry_schedule))}]  # seconds after each failure"


def _text(text: str) -> str:
    """Return the text as YAML: plain if that is safe, else quoted with unprintable characters escaped."""
    return text if PLAIN.fullmatch(text) else printable(json.dumps(text, ensure_ascii=False))
