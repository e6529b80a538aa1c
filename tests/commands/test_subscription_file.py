"""The file of subscriptions: secrets by reference alone, mistakes with path and line, exports that read back."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.subscription_sets.models import StoredSubscription
from api.subscriptions.models import MaskedHeader
from commands.subscriptions.file import (
    MOST_BYTES,
    FileRefused,
    SubscriptionFile,
    export_text,
    read_subscription_file,
)
from commands.subscriptions.yaml_document import Value

MASK = "•••"
ID = UUID("6f9619ff-8b86-4011-b42d-00c04fc964ff")
HEAD = "version: 1\nsubscriptions:\n  - eventName: CustomerUpdated\n    headers:\n      - headerName: A\n"


def read(text: str | bytes, path: Path = Path("s.yaml"), **environment: str) -> SubscriptionFile:
    return read_subscription_file(path, text.encode() if isinstance(text, str) else text, environment)


def complaints(text: str | bytes, path: Path = Path("s.yaml"), **environment: str) -> list[str]:
    with pytest.raises(FileRefused) as refused:
        read(text, path, **environment)
    return refused.value.complaints


def value_of(reference: str, path: Path = Path("s.yaml"), **environment: str) -> Value:
    [entry] = read(f"{HEAD}        headerValue: {reference}\n", path, **environment).entries
    assert isinstance(entry, dict)
    [header] = entry["headers"]  # type: ignore[misc]
    assert isinstance(header, dict)
    return header["headerValue"]


def complaint_of(reference: str, path: Path = Path("s.yaml"), **environment: str) -> str:
    [complaint] = complaints(f"{HEAD}        headerValue: {reference}\n", path, **environment)
    prefix = f"{path}:6: subscriptions.0.headers.0.headerValue: "
    assert complaint.startswith(prefix)
    return complaint.removeprefix(prefix)


def test_a_value_comes_from_the_environment_a_file_or_the_store(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"Bearer 1 \r\n")
    assert value_of("{fromEnv: TOKEN}", TOKEN="Bearer 2") == "Bearer 2"
    assert value_of("{fromFile: secret}", tmp_path / "s.yaml") == "Bearer 1 "
    assert value_of(f"{{fromFile: {tmp_path}/secret}}") == "Bearer 1 "
    assert value_of("{keep: true}") == MASK


@pytest.mark.parametrize("written", ["Bearer s3cret", "7", '"s3cret"', "true", "•••", "", "[s3cret]"])
def test_a_value_in_the_file_itself_is_refused_and_not_repeated(written: str) -> None:
    complaint = complaint_of(written)
    assert complaint.startswith("the file never holds a secret")
    assert "s3cret" not in complaint


@pytest.mark.parametrize(
    "reference",
    ["{}", "{fromEnv: A, keep: true}", "{keep: false}", "{keep: 1}", "{fromEnv: 7}", '{fromEnv: ""}', "{fromenv: A}"],
)
def test_a_reference_has_one_of_three_forms(reference: str) -> None:
    assert complaint_of(reference, A="1") == "must be one of {fromEnv: NAME}, {fromFile: PATH} or {keep: true}"


def test_a_source_that_gives_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "latin").write_bytes(b"\xff")
    file = tmp_path / "s.yaml"
    assert complaint_of("{fromEnv: TOKEN}") == "the environment variable TOKEN is not set"
    assert complaint_of("{fromEnv: TOKEN}", TOKEN=" ") == "the environment variable TOKEN is empty"
    assert complaint_of("{fromEnv: TOKEN}", TOKEN=MASK).startswith("the environment variable TOKEN holds •••")
    assert complaint_of("{fromFile: none}", file) == "none cannot be read: No such file or directory"
    assert complaint_of("{fromFile: .}", file) == ". cannot be read: Is a directory"
    assert complaint_of("{fromFile: empty}", file) == "empty is empty"
    assert complaint_of("{fromFile: latin}", file) == "latin is not UTF-8"
    assert complaint_of('{fromFile: "a\\0"}', file).endswith("cannot be read: embedded null byte")


def test_the_secrets_of_an_authentication_come_from_elsewhere_too() -> None:
    text = "version: 1\nsubscriptions:\n  - authentication:\n      type: basic\n      username: shop\n"
    [entry] = read(text + "      password: {fromEnv: PASSWORD}\n", PASSWORD="open sesame").entries
    assert entry == {"authentication": {"type": "basic", "username": "shop", "password": "open sesame"}}
    [entry] = read(text + "      password: {keep: true}\n").entries
    assert entry == {"authentication": {"type": "basic", "username": "shop", "password": MASK}}
    [complaint] = complaints(text + "      password: s3cret\n")
    assert complaint.startswith("s.yaml:6: subscriptions.0.authentication.password: the file never holds a secret")
    assert "s3cret" not in complaint


def test_everything_else_of_an_entry_is_left_to_the_api() -> None:
    text = (
        "version: 1\nstore: default\nsubscriptions:\n  - {nonsense: [1, {a: ~}], headers: 7}\n  - {headers: [7, {}]}\n"
    )
    file = read(text)
    assert file.store == "default"
    assert file.entries == [{"nonsense": [1, {"a": None}], "headers": 7}, {"headers": [7, {}]}]
    assert file.complaint("subscriptions.1.headers.0", "is wrong") == "s.yaml:5: subscriptions.1.headers.0: is wrong"
    assert file.complaint("", "is wrong") == "s.yaml:1: is wrong"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["s.yaml:1: must hold version, store, subscriptions"]),
        ("subscriptions: []", ["s.yaml:1: version: must be 1"]),
        ("version: '1'\nsubscriptions: []", ["s.yaml:1: version: must be 1"]),
        ("version: true\nsubscriptions: []", ["s.yaml:1: version: must be 1"]),
        ("version: 2\nwhatever: 1", ["s.yaml:1: version: must be 1; a newer loyalty-webhooks reads this file"]),
        (
            "version: 1\nstor: x\nsubscriptions:",
            ["s.yaml:2: stor: unknown field", "s.yaml:3: subscriptions: must be a list; an empty one is []"],
        ),
        ("version: 1", ["s.yaml:1: subscriptions: must be a list; an empty one is []"]),
        ("version: 1\nstore: 7\nsubscriptions: []", ["s.yaml:2: store: must be a store code"]),
        (
            "version: 1\nsubscriptions:\n- x\n- a: 1\n- [b]",
            [
                "s.yaml:3: subscriptions.0: must be a webhook, as eventName: …, name: …, url: …",
                "s.yaml:5: subscriptions.2: must be a webhook, as eventName: …, name: …, url: …",
            ],
        ),
        ("version: 1\nsubscriptions: [", ["s.yaml:2: while parsing a flow node, expected the node content, but found"]),
    ],
)
def test_what_is_wrong_is_told_with_path_and_line_all_at_once(text: str, expected: list[str]) -> None:
    found = complaints(text)
    assert len(found) == len(expected)
    assert all(line.startswith(beginning) for line, beginning in zip(found, expected, strict=True)), found


def test_a_file_that_is_too_large_is_not_read() -> None:
    assert complaints(b"#" * (MOST_BYTES + 1)) == [f"s.yaml: has more than {MOST_BYTES:,} bytes"]


def stored(**fields: object) -> StoredSubscription:
    values = {
        "webhook_subscription_id": ID,
        "event_name": "CustomerUpdated",
        "name": "CRM",
        "url": "https://receiver.example.com/hook",
        "legacy": False,
        "headers": [],
        "authentication": None,
        "hmac_enabled": False,
        "active_from": None,
        "rate_limit_per_second": None,
        "max_concurrency": None,
        "timeout_seconds": None,
        "ordered": False,
        "order_key": "subscription",
        "after_exhausted": "skip",
        "retry_schedule": None,
    }
    return StoredSubscription.model_validate(values | fields)


def entries(*subscriptions: StoredSubscription) -> list[Value]:
    return read(export_text("default", subscriptions)).entries


def body(text: str) -> str:
    return text.partition("\nstore: default\n")[2]


def test_an_export_says_what_is_not_the_default_and_no_more() -> None:
    text = export_text(
        "default",
        [
            stored(name="Bare"),
            stored(
                legacy=True,
                headers=[MaskedHeader(header_name="X-Till", header_value=MASK)],
                authentication={"type": "basic", "username": "it's: me", "password": MASK},
                hmac_enabled=True,
                active_from=datetime(2026, 2, 28, 23, 30, 0, 500000, tzinfo=UTC),
                rate_limit_per_second=7,
                max_concurrency=3,
                timeout_seconds=20,
                ordered=True,
                order_key="customer",
                after_exhausted="hold",
                retry_schedule=[5, 300],
            ),
        ],
    )
    assert (
        body(text)
        == """\
subscriptions:
  - eventName: CustomerUpdated
    name: Bare
    url: https://receiver.example.com/hook
  - eventName: CustomerUpdated
    name: CRM
    url: https://receiver.example.com/hook
    legacy: true
    headers:
      - headerName: X-Till
        headerValue: {keep: true}
    authentication:
      type: basic
      username: "it's: me"
      password: {keep: true}
    hmacEnabled: true
    activeFrom: 2026-02-28T23:30:00.500000Z
    rateLimitPerSecond: 7
    maxConcurrency: 3
    timeoutSeconds: 20
    ordered: true
    orderKey: customer
    afterExhausted: hold
    retrySchedule: [5, 300]  # seconds after each failure
"""
    )
    assert read(text).store == "default"


def test_an_empty_store_is_a_file_too() -> None:
    assert body(export_text("default", [])) == "subscriptions: []\n"
    assert entries() == []


def test_an_id_stands_where_event_and_name_do_not_tell() -> None:
    [unnamed, first, second, other] = entries(
        stored(name=None), stored(), stored(url="https://b.example.com/"), stored(event_name="RewardCreated")
    )
    ids = [isinstance(entry, dict) and entry.get("webhookSubscriptionId") for entry in (unnamed, first, second, other)]
    assert ids == [str(ID), str(ID), str(ID), None]
    assert isinstance(unnamed, dict)
    assert "name" not in unnamed


def test_an_empty_schedule_is_not_the_default() -> None:
    [entry] = entries(stored(retry_schedule=[]))
    assert isinstance(entry, dict)
    assert entry["retrySchedule"] == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.text(
    "ab :#-'\"{}[],&*!|>%@`\n\t\\~0", min_size=1, max_size=6
)


@given(TEXT, TEXT, TEXT)
def test_every_text_reads_back_as_it_was(name: str, url: str, header: str) -> None:
    masked = [MaskedHeader(header_name=header, header_value=MASK)]
    text = export_text("default", [stored(name=name, url=url, headers=masked)])
    [entry] = read(text).entries
    assert entry == {
        "eventName": "CustomerUpdated",
        "name": name,
        "url": url,
        "headers": [{"headerName": header, "headerValue": MASK}],
    }
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "name", ["true", "No", "null", "~", "12", "1.5", "2026-01-01", "a: b", "x #y", "- x", " x", ""]
)
def test_what_yaml_would_take_for_something_else_is_in_quotes(name: str) -> None:
    assert f'name: "{name}"\n' in export_text("default", [stored(name=name)])


@pytest.mark.parametrize("name", ["CRM", "Mail (new) 2.0", "Müller", "a-b_c/d"])
def test_what_needs_no_quotes_has_none(name: str) -> None:
    assert f"name: {name}\n" in export_text("default", [stored(name=name)])
