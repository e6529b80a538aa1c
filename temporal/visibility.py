"""What a workflow shows in the Temporal Web UI: search attributes, a summary, a table. References only, no data."""

from collections.abc import Sequence

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from domain.delivery.lifecycle import DeliveryStatus
from domain.expiry.rows import EVENT_NAMES, Kind
from temporal.messages import EventRef, FirstAttempts, ScanProgress, ScanTask

STORE_CODE = SearchAttributeKey.for_keyword_list("StoreCode")
EVENT_NAME = SearchAttributeKey.for_keyword_list("EventName")
EVENT_IDS = SearchAttributeKey.for_keyword_list("EventIds")

SEARCH_ATTRIBUTES = (STORE_CODE.name, EVENT_NAME.name, EVENT_IDS.name)
"""All of them are keyword lists. SQL visibility has three slots for these in a namespace, so there is none to spare."""

MOST_EVENT_IDS = 50
"""53 uuids do not fit into a value. A larger batch is found through the event's row."""

VALUE_BYTES = 2048
"""What one value may hold as JSON. Temporal never starts a workflow with a longer one, however often it is asked."""

DETAILS_BYTES = 20_000
"""What static details may hold in Temporal as they are held there: encoded, and encrypted where there are keys."""

MOST_ROWS = 50
"""Of the table; an event has rarely more subscriptions, and with the longest targets these take 19,600 bytes of the
details when encrypted."""

SUMMARY_BYTES = 400
"""The same of a summary."""

SUMMARY_CHARACTERS = 150
"""Encrypted they take 383 bytes."""


def search_attributes(events: Sequence[EventRef]) -> TypedSearchAttributes:
    """By which the Web UI finds the workflow of these events."""
    pairs: list[SearchAttributePair[Sequence[str]]] = [
        SearchAttributePair(STORE_CODE, _fitting(sorted({event.store_code for event in events}))),
        SearchAttributePair(EVENT_NAME, _fitting(sorted({event.name for event in events}))),
    ]
    if len(events) <= MOST_EVENT_IDS:
        pairs.append(SearchAttributePair(EVENT_IDS, [event.event_id for event in events]))
    return TypedSearchAttributes(pairs)


def _fitting(values: Sequence[str]) -> list[str]:
    """As many of the values as one search attribute can hold."""
    fitting: list[str] = []
    room = VALUE_BYTES - len("[]")
    for value in values:
        room -= len(value.encode()) + len('"",')
        if room < 0:
            break
        fitting.append(value)
    return fitting


def as_summary(text: str) -> str:
    """As much of the text as a summary can hold."""
    return text if len(text) <= SUMMARY_CHARACTERS else text[: SUMMARY_CHARACTERS - 1] + "…"


def event_summary(events: Sequence[EventRef]) -> str:
    """`CustomerRegistered · default`, or how many events of what."""
    if len(events) == 1:
        return f"{events[0].name} · {events[0].store_code}"
    names = sorted({event.name for event in events})
    stores = sorted({event.store_code for event in events})
    what = names[0] if len(names) == 1 else f"{len(names)} kinds"
    where = stores[0] if len(stores) == 1 else f"{len(stores)} stores"
    return f"{len(events)} events · {what} · {where}"


def memo(events: Sequence[EventRef]) -> dict[str, int | str]:
    """What the list of workflows can show beside the id: how many events of what. No personal data."""
    return {"events": len(events), "what": event_summary(events)}


def details_table(first: FirstAttempts) -> str:
    """Return where each delivery of a single event goes and where it stands (Markdown)."""
    rows = [f"| {one.target} | `{one.message_id}` | {_state(one.status)} |" for one in first.deliveries]
    if not rows:
        return "No subscription matches this event, or all its deliveries are held."
    lines = ["| receiver | delivery | state after the first attempt |", "| --- | --- | --- |", *rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"| … | {len(rows) - MOST_ROWS} more | |")
    return "\n".join(lines)


def _state(status: str) -> str:
    return "retrying, as the activity of this id" if status == DeliveryStatus.PENDING else status


def batch_details(events: int, first: FirstAttempts) -> str:
    """Return the result of a batch's first attempts (Markdown)."""
    return (
        f"{events} events: {first.delivered} deliveries made at the first attempt, {first.exhausted} ended without, "
        f"{first.held} held, {first.retrying} go on as activities `deliver-webhook`."
    )


RUN_WORKFLOW = "run-expiry-schedule"
SCAN_WORKFLOW = "scan-expiring-day"

LATE = "late"
"""In place of a day: the workflow that looks for late rows, one at a time for a store and kind."""

TABLE_HEAD = "| day | due | emitted | known | no longer due |\n| --- | --- | --- | --- | --- |"


def scan_row(task: ScanTask, progress: ScanProgress) -> str:
    """A finished scan in a table with this head."""
    day = task.day or "late rows"
    return f"| {day} | {progress.scanned} | {progress.emitted} | {progress.known} | {progress.dropped} |"


def scan_details(progress: ScanProgress) -> str:
    """How far a scan has come (Markdown)."""
    state = "scanned" if progress.finished else "being scanned"
    return (
        f"**{progress.place}**: {state}. {progress.scanned} due, {progress.emitted} notices emitted "
        f"({progress.emitted_per_second:.0f} a second), {progress.known} known already, "
        f"{progress.dropped} no longer due, {progress.refused} refused."
    )


def scan_summary(task: ScanTask) -> str:
    """`points · default · 2026-01-12`."""
    return f"{task.kind} · {task.store_code} · {task.day or 'late rows'}"


def expiry_attributes(store_code: str, kind: str) -> TypedSearchAttributes:
    """By which the Web UI finds the workflow."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(STORE_CODE, [store_code]),
            SearchAttributePair(EVENT_NAME, [EVENT_NAMES[Kind(kind)]]),
        ]
    )
