"""What Temporal Cloud bills as actions, counted in the recorded histories: `python -m tests.replay.actions`.

By the rules that Temporal publishes (docs.temporal.io, Temporal Cloud Actions). The standalone
activities of later attempts have no history: each costs an action for its start and one for every attempt, and a
heartbeat every two seconds while an attempt takes long.
"""

import json
from typing import Any

from tests.replay.record import HISTORIES

OF_EVENT = {
    "WORKFLOW_EXECUTION_STARTED": 1,
    "START_CHILD_WORKFLOW_EXECUTION_INITIATED": 2,
    "ACTIVITY_TASK_SCHEDULED": 1,
    "TIMER_STARTED": 1,
    "WORKFLOW_EXECUTION_SIGNALED": 1,
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": 1,
}

SHOWN = {
    "deliver-events.alone-settled-at-once": "an event alone, to any number of webhooks, delivered at once",
    "deliver-events.alone-nobody-subscribed": "an event nobody is subscribed to",
    "deliver-events.settled-at-once": "a batch, whatever the number of its events, delivered at once",
    "deliver-events.alone-with-retries": "an event alone of which deliveries go on as activities",
    "deliver-events.some-with-retries": "a batch of which some deliveries go on as activities",
    "drain-subscription.let-go": "a drain that sends two held deliveries, one after the other",
    "scan-expiring-day.nothing-due": "the scan of a day, beside three for the schedule that begins it",
}
"""The histories that are told on docs/operating.md, and what each is."""


def events_of(name: str) -> list[dict[str, Any]]:
    """The events of a recorded history."""
    found: list[dict[str, Any]] = json.loads((HISTORIES / f"{name}.json").read_text())["events"]
    return found


def actions(events: list[dict[str, Any]]) -> int:
    """How many of them are billed."""
    billed = 0
    tasks_with_markers = set()
    for event in events:
        kind = event["eventType"].removeprefix("EVENT_TYPE_")
        billed += OF_EVENT.get(kind, 0)
        if kind == "WORKFLOW_EXECUTION_STARTED" and "parentWorkflowExecution" in _attributes(event):
            billed -= 1  # its parent was billed for it
        elif kind == "WORKFLOW_EXECUTION_SIGNALED" and event["eventId"] == "2":
            billed -= 1  # signalled and started in one call
        elif kind == "ACTIVITY_TASK_STARTED":
            billed += _attributes(event).get("attempt", 1) - 1
        elif kind == "MARKER_RECORDED":
            tasks_with_markers.add(_attributes(event)["workflowTaskCompletedEventId"])
    return billed + len(tasks_with_markers)


def _attributes(event: dict[str, Any]) -> dict[str, Any]:
    return next((value for key, value in event.items() if key.endswith("EventAttributes")), {})


def table() -> list[str]:
    """As on docs/operating.md."""
    lines = ["| what | actions |", "| --- | --- |"]
    return lines + [f"| {what} | {actions(events_of(name))} |" for name, what in SHOWN.items()]


if __name__ == "__main__":
    print("\n".join(table()))
