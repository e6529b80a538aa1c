"""Settings → Audit: the log of changes, with actor, object and time."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

from starlette.responses import Response

from api.ids import is_id
from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from api.panel.webhooks import shown_schedule
from api.subscriptions.models import SubscriptionCreate
from api.subscriptions.service import SUBSCRIPTION
from domain.access import Scope
from domain.wire.jsontext import dump
from storage.access.audit import AUDIT_FIELDS, audit_page, existing_objects
from storage.access.tables import AuditEntry

ENTRIES_SHOWN = 25
BIGGEST_ID = 2**63 - 1  # Maximum of PostgreSQL's bigint.
DEFAULTS = {name: field.default for name, field in SubscriptionCreate.model_fields.items()}
"""Values of a new webhook that nobody chose."""

FORM_WORDS = {
    "active_from": "active_from",
    "after_exhausted": "after_exhausted",
    "authentication": "authentication",
    "event_name": "event",
    "headers": "headers",
    "hmac_enabled": "signing",
    "legacy": "legacy_switch",
    "max_concurrency": "concurrency",
    "name": "name",
    "order_key": "order_key",
    "ordered": "ordered",
    "rate_limit_per_second": "rate",
    "retry_schedule": "retries",
    "status": "status",
    "timeout_seconds": "timeout",
    "url": "url",
}
"""Labels of the form, by the column of a webhook."""

FORM_VALUES: Mapping[str, Callable[[Any], str]] = {
    "after_exhausted": lambda chosen: t(f"webhooks.after_{chosen}"),
    "order_key": lambda chosen: t(f"webhooks.order_{chosen}"),
    "rate_limit_per_second": lambda count: t("webhooks.per_second", count=count),
    "retry_schedule": shown_schedule,
    "timeout_seconds": lambda count: t("webhooks.seconds", count=count),
}
"""Values in the words of the form, by the column of a webhook."""

OBJECT_PAGES = {
    "subscription": ("webhooks.shown", "webhookSubscriptionId"),
    "delivery": ("deliveries.shown", "messageId"),
    "recover": ("recover.progress", "bulkActionId"),
    "backfill": ("recover.progress", "bulkActionId"),
}
"""Object types that have a page: its route, and the path parameter that takes the object's id."""

pages = PanelRoutes()


@pages.get("/{storeCode}/audit", Scope.ADMIN)
async def listed(page: Page) -> Response:
    """Show the changes in the store."""
    return await _listed(page, page.store_code)


@pages.get("/{storeCode}/audit/installation", Scope.ADMIN, everywhere=True)
async def installation(page: Page) -> Response:
    """Show the changes that belong to no store: API keys and administrators."""
    return await _listed(page, None)


async def _listed(page: Page, store_code: str | None) -> Response:
    listing = page.listing(AUDIT_FIELDS, cursor=True)
    before = None  # the id of the previous page's last entry
    if listing.cursor is not None:
        if listing.cursor.isdecimal() and int(listing.cursor) <= BIGGEST_ID:
            before = int(listing.cursor)
        else:
            page.errors[""] = t("audit.cursor_wrong")
    async with page.resources.database.transaction() as connection:
        rows = await audit_page(connection, store_code, listing.conditions, before, ENTRIES_SHOWN + 1)
        ids = {UUID(row.object_id) for row in rows if row.object_type in OBJECT_PAGES and is_id(row.object_id)}
        existing = set() if store_code is None else await existing_objects(connection, store_code, ids)
    entries = [(row, list(_changes(row)), _address(page, row, existing)) for row in rows[:ENTRIES_SHOWN]]
    more = len(rows) > ENTRIES_SHOWN
    return page.render("audit/list.html", rows=entries, next_cursor=str(rows[ENTRIES_SHOWN - 1].id) if more else None)


def _address(page: Page, row: AuditEntry, existing: Collection[UUID]) -> str | None:
    """Return the address of the object's page, or None if it has no page or no longer exists."""
    if row.object_type not in OBJECT_PAGES or not is_id(row.object_id) or UUID(row.object_id) not in existing:
        return None
    route, parameter = OBJECT_PAGES[row.object_type]
    return page.url(route, None, **{parameter: row.object_id})


def _changes(row: AuditEntry) -> Iterator[tuple[str, str | None, str]]:
    """Yield the name, the value before (None if there was none) and the value after of each change.

    Of a new object, values that are empty or the default are left out.
    """
    for name, value in row.changes.items():
        pair = value if isinstance(value, Mapping) and set(value) == {"before", "after"} else {"after": value}
        before, after = pair.get("before"), pair["after"]
        if before is None and (after in (None, []) or (name in DEFAULTS and after == DEFAULTS[name])):
            continue
        words = name.replace("_", " ")
        if row.object_type in (SUBSCRIPTION, "draft_test") and name in FORM_WORDS:
            words = t(f"webhooks.{FORM_WORDS[name]}")
        yield words, None if before is None else _shown(name, before), _shown(name, after)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return t("audit.nothing")
    if name in FORM_VALUES:
        return FORM_VALUES[name](value)
    if isinstance(value, bool):
        return t("frame.yes") if value else t("frame.no")
    if isinstance(value, list):
        return ", ".join(one if isinstance(one, str) else dump(one) for one in value) or t("audit.nothing")
    return value if isinstance(value, str) else dump(value)
