"""Search attributes, summaries and details of workflows in the Temporal Web UI. References only, no data."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from temporalio.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)

from domain.delivery.lifecycle import STATUS_WORDS, DeliveryStatus
from domain.expiry.rows import EVENT_NAMES, Kind
from temporal.messages import EventRef, FirstAttempts, ScanProgress, ScanTask

STORE_CODE = SearchAttributeKey.for_keyword_list("StoreCode")
EVENT_NAME = SearchAttributeKey.for_keyword_list("EventName")
EVENT_IDS = SearchAttributeKey.for_keyword_list("EventIds")
RECEIVER_HOSTS = SearchAttributeKey.for_text("ReceiverHosts")
"""A text, whose words are hosts: SQL visibility has three slots of keyword lists per namespace, taken by the others. It
is left out of batches, and where the client encrypts."""

SEARCH_ATTRIBUTE_KEYS: Sequence[SearchAttributeKey[Any]] = (STORE_CODE, EVENT_NAME, EVENT_IDS, RECEIVER_HOSTS)
SEARCH_ATTRIBUTES: Mapping[str, SearchAttributeIndexedValueType] = {
    key.name: SearchAttributeIndexedValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTE_KEYS
}
"""Search attributes of the namespace, with their kinds."""


def shown_kind(name: str) -> str:
    """Return the kind of a search attribute as Temporal's programs name it, such as `KeywordList`."""
    return SEARCH_ATTRIBUTES[name].name.title().replace("_", "")


_HOST = re.compile(r"\[[^\]]*\]|[^:/]+")
_NO_WORD = re.compile(r"[^\w.-]")

MOST_EVENT_IDS = 50
"""Maximum number of event ids in a search attribute: 53 do not fit. A larger batch is found through the event's row."""

VALUE_BYTES = 2048
"""Maximum size of a search attribute as JSON. Temporal refuses every start with a larger one."""

MOST_ROWS = 50
"""Maximum number of rows in the table. With the longest targets they take 19,600 bytes when encrypted;
Temporal stores static details of 20,000."""

SUMMARY_CHARACTERS = 150
"""Maximum length of a summary, which takes 383 bytes when encrypted; Temporal stores 400."""


def search_attributes(events: Sequence[EventRef], targets: Sequence[str]) -> TypedSearchAttributes:
    """Return the search attributes by which the Web UI finds the workflow of these events, also by the hosts of its
    receivers, whose `targets` are host and path."""
    stores, names = sorted({event.store_code for event in events}), sorted({event.name for event in events})
    event_ids = [event.event_id for event in events] if len(events) <= MOST_EVENT_IDS else []
    return _attributes(_fitting(stores), _fitting(names), event_ids, _fitting(sorted(set(map(_host, targets)))))


def attributes_to(
    target: str, store_code: str, event_name: str, *event_ids: UUID, hidden: bool
) -> TypedSearchAttributes:
    """Return the search attributes by which the Web UI finds an activity of one delivery, or a drain: also by the host
    of the receiver, whose `target` is host and path, unless the client encrypts (`hidden`)."""
    hosts = [] if hidden else [_host(target)]
    return _attributes([store_code], [event_name], [str(event_id) for event_id in event_ids], hosts)


def _attributes(
    store_codes: list[str], event_names: list[str], event_ids: list[str], hosts: Sequence[str] = ()
) -> TypedSearchAttributes:
    pairs = ((STORE_CODE, store_codes), (EVENT_NAME, event_names), (EVENT_IDS, event_ids))
    lists: list[SearchAttributePair[Any]] = [SearchAttributePair(key, values) for key, values in pairs if values]
    return TypedSearchAttributes([*lists, *([SearchAttributePair(RECEIVER_HOSTS, " ".join(hosts))] if hosts else [])])


def _host(target: str) -> str:
    """Return the host of a target as one word: PostgreSQL, as Temporal's visibility, reads other characters of a text
    as its own syntax. An IPv6 address is written with hyphens."""
    host = _HOST.match(target.lower())
    return _NO_WORD.sub("-", host[0].strip("[]")) if host else ""


def _fitting(values: Sequence[str]) -> list[str]:
    fitting: list[str] = []
    free = VALUE_BYTES - len("[]")
    for value in values:
        free -= len(value.encode()) + len('"",')
        if free < 0:
            break
        fitting.append(value)
    return fitting


def as_summary(text: str) -> str:
    return text if len(text) <= SUMMARY_CHARACTERS else text[: SUMMARY_CHARACTERS - 1] + "…"


def event_summary(events: Sequence[EventRef]) -> str:
    """Return `CustomerRegistered · default` for one event; number, names and stores for several."""
    if len(events) == 1:
        return f"{events[0].name} · {events[0].store_code}"
    names = sorted({event.name for event in events})
    stores = sorted({event.store_code for event in events})
    kinds = names[0] if len(names) == 1 else f"{len(names)} kinds"
    codes = stores[0] if len(stores) == 1 else f"{len(stores)} stores"
    return f"{len(events)} events · {kinds} · {codes}"


def memo(events: Sequence[EventRef]) -> dict[str, int | str]:
    """Return number and names of the events, for the list of workflows. No personal data."""
    return {"events": len(events), "what": event_summary(events)}


def details_table(first: FirstAttempts) -> str:
    """Return a table of target and state of each delivery of a single event (Markdown)."""
    words = {**STATUS_WORDS, DeliveryStatus.PENDING: "retrying, as the activity of this id"}
    rows = [f"| {one.target} | `{one.message_id}` | {words.get(one.status, one.status)} |" for one in first.deliveries]
    if not rows:
        return "No webhook matches this event, or each of its deliveries ended without an attempt."
    lines = ["| receiver | delivery | state after the first attempt |", "| --- | --- | --- |", *rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"| … | {len(rows) - MOST_ROWS} more | |")
    return "\n".join(lines)


def batch_details(events: int, first: FirstAttempts) -> str:
    """Return the result of a batch's first attempts (Markdown)."""
    return (
        f"{events} events: {first.delivered} deliveries made at the first attempt, {first.exhausted} gave up, "
        f"{first.held} held, {first.retrying} go on as activities `deliver-webhook`."
    )


RUN_WORKFLOW = "run-expiry-schedule"
SCAN_WORKFLOW = "scan-expiring-day"

LATE = "late"
"""Part of a workflow id in place of a day: the scan for late rows, one at a time for a store and kind."""

TABLE_HEAD = "| day | due | emitted | known | no longer due |\n| --- | --- | --- | --- | --- |"


def scan_row(task: ScanTask, progress: ScanProgress) -> str:
    """Return the row of a finished scan, for a table with `TABLE_HEAD`."""
    day = task.day or "late rows"
    return f"| {day} | {progress.scanned} | {progress.emitted} | {progress.known} | {progress.dropped} |"


def scan_details(progress: ScanProgress) -> str:
    """Return the progress of a scan (Markdown)."""
    state = "scanned" if progress.finished else "being scanned"
    return (
        f"**{progress.place}**: {state}. {progress.scanned} due, {progress.emitted} notices emitted "
        f"({progress.emitted_per_second:.0f} a second), {progress.known} known already, "
        f"{progress.dropped} no longer due, {progress.refused} refused."
    )


def scan_summary(task: ScanTask) -> str:
    """Return a summary of the form `points · default · 2026-01-12`."""
    return f"{task.kind} · {task.store_code} · {task.day or 'late rows'}"


def expiry_attributes(store_code: str, kind: str) -> TypedSearchAttributes:
    """Return the search attributes by which the Web UI finds an expiry workflow."""
    return _attributes([store_code], [EVENT_NAMES[Kind(kind)]], [])
