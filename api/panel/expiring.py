"""Expiring: the three schedules of a store, the preview of a scan, and manual scans."""

from datetime import date

from starlette.responses import Response

from api.body import validate
from api.errors import Unavailable, ValidationFailed, invalid
from api.expiry.preview import ROWS_SHOWN
from api.panel.frame.page import Page, PanelRoutes
from api.panel.texts import t
from api.schedules.models import ScanBackfillRequest, days_of, kind_of
from api.schedules.service import ScheduleActions
from domain.access import Scope
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import EVENT_NAMES, Kind

RUNNING_SECONDS, IDLE_SECONDS = 2, 15
"""Polling intervals of the scans' list in seconds: while a scan is running, and otherwise."""

pages = PanelRoutes()


@pages.get("/{storeCode}/expiring", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the three schedules."""
    schedules = await page.actions(ScheduleActions).all()
    return page.render("expiring/list.html", schedules=schedules, events=EVENT_NAMES)


@pages.post("/{storeCode}/expiring", Scope.DELIVERY_ACT, refused="expiring.shown")
async def synced(page: Page) -> Response:
    """Create missing schedules and correct the others now."""
    result = await page.actions(ScheduleActions).sync()
    if result.failed:
        said = "; ".join(f"{schedule_id}: {reason}" for schedule_id, reason in result.failed.items())
        return await page.done(t("expiring.sync_failed", reasons=said), "expiring.shown", kind="danger")
    return await page.done(t("expiring.synced"), "expiring.shown")


@pages.get("/{storeCode}/expiring/{expiryKind}", Scope.DELIVERY_READ)
async def one(page: Page) -> Response:
    """Show a schedule with its last scans."""
    return await _scans(page, "expiring/one.html")


@pages.get("/{storeCode}/expiring/{expiryKind}/scans", Scope.DELIVERY_READ)
async def scans(page: Page) -> Response:
    """Return the last scans, for the page's polling."""
    return await _scans(page, "expiring/scans.html")


async def _scans(page: Page, template: str) -> Response:
    schedule = await page.actions(ScheduleActions).details(_kind(page))
    # A notice means that a scan was just requested, which may not have started yet.
    running = page.notice or any(scan.finished_at is None for scan in schedule.scans)
    return page.render(template, schedule=schedule, seconds=RUNNING_SECONDS if running else IDLE_SECONDS)


@pages.post("/{storeCode}/expiring/{expiryKind}/scan", Scope.DELIVERY_ACT, refused=one)
async def scanned(page: Page) -> Response:
    """Scan one day now: the day in the field `day`, or else the day that is due today."""
    begun = await page.actions(ScheduleActions).trigger(_kind(page), _day(page.form.text("day")))
    return await page.done(t("expiring.scanning", day=begun.day), "expiring.one")


@pages.post("/{storeCode}/expiring/{expiryKind}/backfill", Scope.DELIVERY_ACT, refused=one)
async def backfilled(page: Page) -> Response:
    """Scan the days from `firstDay` to `lastDay` now."""
    kind = _kind(page)
    sent = {name: page.form.text(name) for name in ("firstDay", "lastDay")}
    first, last = days_of(validate(ScanBackfillRequest, dict(sent)))
    await page.actions(ScheduleActions).backfill(kind, first, last)
    return await page.done(t("expiring.backfilling", first=first, last=last), "expiring.one")


@pages.post("/{storeCode}/expiring/{expiryKind}/paused", Scope.DELIVERY_ACT, refused="expiring.one")
async def paused(page: Page) -> Response:
    """Pause or resume the schedule, as the box `paused` says."""
    kind, pausing = _kind(page), page.form.flag("paused")
    await page.actions(ScheduleActions).switch(kind, "pause" if pausing else "resume")
    said = t("expiring.paused" if pausing else "expiring.resumed", kind=t(f"expiring.kind_{kind}"))
    return await page.done(said, "expiring.one")


@pages.get("/{storeCode}/expiring/{expiryKind}/preview", Scope.DELIVERY_READ)
async def previewed(page: Page) -> Response:
    """Show the objects that a scan of the day would find. Nothing is sent."""
    kind, found = _kind(page), None
    try:
        found = await page.actions(ScheduleActions).preview(kind, _day(page.query("day")))
    except (ValidationFailed, Unavailable) as error:
        page.refused(error)
    return page.render("expiring/preview.html", kind=kind, found=found, most=ROWS_SHOWN)


def _kind(page: Page) -> Kind:
    return kind_of(page.request.path_params["expiryKind"])


def _day(text: str) -> date | None:
    try:
        return read_day(text) if text else None
    except ValueError as error:
        raise invalid("day", "not_a_day", str(error)) from None
