"""Names of the workflows of expiry, and what they show in the Temporal Web UI: days and counts, no rows."""

from temporalio.common import SearchAttributePair, TypedSearchAttributes

from domain.expiry.rows import EVENT_NAMES, Kind
from temporal.expiry_messages import ScanProgress, ScanTask
from temporal.visibility import EVENT_NAME, STORE_CODE

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
