"""What a workflow shows in the Temporal Web UI: search attributes, a summary, a table. References only, no data."""

from collections.abc import Mapping, Sequence

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from activities.messages import DeliveryEnd, EventRef, Waiting

STORE_CODE = SearchAttributeKey.for_keyword_list("StoreCode")
EVENT_NAME = SearchAttributeKey.for_keyword_list("EventName")
EVENT_IDS = SearchAttributeKey.for_keyword_list("EventIds")

MOST_EVENT_IDS = 50
"""A value holds 2,048 bytes: 53 uuids are refused at the start. A larger batch is found through the event's row."""

MOST_ROWS = 50
"""Of the table; an event has rarely more subscriptions, and the field is limited."""


def search_attributes(events: Sequence[EventRef]) -> TypedSearchAttributes:
    """By which the Web UI finds the workflow of these events."""
    pairs: list[SearchAttributePair[Sequence[str]]] = [
        SearchAttributePair(STORE_CODE, sorted({event.store_code for event in events})[:MOST_EVENT_IDS]),
        SearchAttributePair(EVENT_NAME, sorted({event.name for event in events})),
    ]
    if len(events) <= MOST_EVENT_IDS:
        pairs.append(SearchAttributePair(EVENT_IDS, [event.event_id for event in events]))
    return TypedSearchAttributes(pairs)


def event_summary(events: Sequence[EventRef]) -> str:
    """`CustomerRegistered · default`, or how many events of what."""
    if len(events) == 1:
        return f"{events[0].name} · {events[0].store_code}"
    names = sorted({event.name for event in events})
    stores = sorted({event.store_code for event in events})
    what = names[0] if len(names) == 1 else f"{len(names)} kinds"
    where = stores[0] if len(stores) == 1 else f"{len(stores)} stores"
    return f"{len(events)} events · {what} · {where}"


def details_table(waiting: Sequence[Waiting], ends: Mapping[str, DeliveryEnd | None]) -> str:
    """Where each delivery that outlived its first attempt goes, and where it stands (Markdown)."""
    if not waiting:
        return "Every delivery was settled by its first attempt."
    lines = ["| receiver | delivery | state |", "| --- | --- | --- |"]
    for one in waiting[:MOST_ROWS]:
        end = ends.get(one.message_id)
        state = f"{end.status} after {end.attempts} attempts" if end is not None else "being retried"
        lines.append(f"| {one.target} | `{one.message_id}` | {state} |")
    if len(waiting) > MOST_ROWS:
        lines.append(f"| … | {len(waiting) - MOST_ROWS} more | |")
    return "\n".join(lines)
