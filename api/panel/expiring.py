"""Expiring: the three schedules of a store, the preview of a scan, and manual scans."""

from datetime import date

from starlette.responses import Response

from api.body import validate
from api.errors import ApiError, Conflict, Unavailable, ValidationFailed, invalid
from api.expiry.preview import ROWS_SHOWN
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.schedules.models import ScanBackfillRequest, ScanOut, days_of, kind_of
from api.schedules.service import ScheduleActions
from domain.access import Scope
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import EVENT_NAMES, Kind
from domain.wire.jsontext import pretty

RUNNING_SECONDS, IDLE_SECONDS = 2, 15
"""Polling intervals of the scans' list in seconds: while a scan is running, and otherwise."""

pages = PanelRoutes()


@pages.get("/{storeCode}/expiring", Scope.DELIVERY_READ)
async def shown(page: Page) -> Response:
    """Show the three schedules."""
    return page.render("expiring/list.html", schedules=await _actions(page).all(), events=EVENT_NAMES)


@pages.post("/{storeCode}/expiring", Scope.DELIVERY_ACT)
async def synced(page: Page) -> Response:
    """Create missing schedules and correct the others now."""
    try:
        result = await _actions(page).sync()
    except Unavailable as refused:
        return await page.done(refused.message, "expiring.shown", kind="danger")
    if result.failed:
        said = "; ".join(f"{schedule_id}: {reason}" for schedule_id, reason in result.failed.items())
        return await page.done(t("expiring.sync_failed", reasons=said), "expiring.shown", kind="danger")
    return await page.done(t("expiring.synced"), "expiring.shown")


@pages.get("/{storeCode}/expiring/{expiryKind}", Scope.DELIVERY_READ)
async def one(page: Page) -> Response:
    """Show a schedule with its last scans."""
    return await _one(page)


@pages.get("/{storeCode}/expiring/{expiryKind}/scans", Scope.DELIVERY_READ)
async def scans(page: Page) -> Response:
    """Return the last scans, for the page's polling."""
    schedule = await _actions(page).details(_kind(page))
    return page.fragment("expiring/scans.html", schedule=schedule, seconds=_poll_seconds(schedule.scans))


@pages.post("/{storeCode}/expiring/{expiryKind}/scan", Scope.DELIVERY_ACT)
async def scanned(page: Page) -> Response:
    """Scan one day now: the day in the field `day`, or else the day that is due today."""
    kind = _kind(page)
    try:
        begun = await _actions(page).trigger(kind, _day(page.form.text("day"), "day"))
    except (ValidationFailed, Unavailable) as error:
        return await _one(page, error)
    return await page.done(t("expiring.scanning", day=begun.day), "expiring.one", expiryKind=kind)


@pages.post("/{storeCode}/expiring/{expiryKind}/backfill", Scope.DELIVERY_ACT)
async def backfilled(page: Page) -> Response:
    """Scan the days from `firstDay` to `lastDay` now."""
    kind = _kind(page)
    sent = {name: page.form.text(name) for name in ("firstDay", "lastDay")}
    try:
        first, last = days_of(validate(ScanBackfillRequest, dict(sent)))
        await _actions(page).backfill(kind, first, last)
    except (ValidationFailed, Unavailable) as error:
        return await _one(page, error)
    return await page.done(t("expiring.backfilling", first=first, last=last), "expiring.one", expiryKind=kind)


@pages.post("/{storeCode}/expiring/{expiryKind}/paused", Scope.DELIVERY_ACT)
async def paused(page: Page) -> Response:
    """Pause or resume the schedule, as the box `paused` says."""
    kind, actions = _kind(page), _actions(page)
    pausing = page.form.flag("paused")
    try:
        await (actions.pause(kind) if pausing else actions.resume(kind))
    except (Conflict, Unavailable) as refused:
        return await page.done(refused.message, "expiring.one", kind="danger", expiryKind=kind)
    said = t("expiring.paused" if pausing else "expiring.resumed", kind=t(f"expiring.kind_{kind}"))
    return await page.done(said, "expiring.one", expiryKind=kind)


@pages.get("/{storeCode}/expiring/{expiryKind}/preview", Scope.DELIVERY_READ)
async def previewed(page: Page) -> Response:
    """Show the objects that a scan of the day would find. Nothing is sent."""
    kind, found = _kind(page), None
    try:
        found = await _actions(page).preview(kind, _day(page.request.query_params.get("day", ""), "day"))
    except (ValidationFailed, Unavailable) as error:
        page.refused(error)
    notices = found.notices if found else []
    bodies = [(pretty(one.modern.decode()), pretty(one.legacy.decode())) for one in notices]
    shown_notices = list(zip(notices, bodies, strict=True))
    return page.render("expiring/preview.html", kind=kind, found=found, notices=shown_notices, most=ROWS_SHOWN)


async def _one(page: Page, error: ApiError | None = None) -> Response:
    if error is not None:
        page.refused(error)
    schedule = await _actions(page).details(_kind(page))
    status = 200 if error is None else error.status
    # A notice means that a scan was just requested, which may not have started yet.
    seconds = RUNNING_SECONDS if page.notice else _poll_seconds(schedule.scans)
    return page.render("expiring/one.html", status, schedule=schedule, seconds=seconds)


def _actions(page: Page) -> ScheduleActions:
    return ScheduleActions(page.resources, page.store_code, page.actor)


def _kind(page: Page) -> Kind:
    return kind_of(page.path("expiryKind"))


def _day(text: str, path: str) -> date | None:
    try:
        return read_day(text) if text else None
    except ValueError as error:
        raise invalid(path, "not_a_day", str(error)) from None


def _poll_seconds(scans: list[ScanOut]) -> int:
    return RUNNING_SECONDS if any(scan.finished_at is None for scan in scans) else IDLE_SECONDS
