"""Settings → Webhooks: list and page of a store's subscriptions, their operator actions, and their form.

Each field of the form has the name of the API's path, so that the API's errors can be shown beside it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, cast, get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

from starlette.responses import JSONResponse, Response

from api.actions.draft_tests import DraftTests
from api.actions.service import OperatorActions, StatusAction
from api.body import validate
from api.errors import ApiError, Conflict, NotFound, Problem, TooManyTests, Unavailable, ValidationFailed
from api.idempotency import KEY
from api.ids import parse_id
from api.panel.forms import Form, for_field, moment
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.subscriptions.models import SubscriptionCreate, SubscriptionUpdate
from api.subscriptions.service import Editor, checked_details_of, create_once, details_of
from domain.access import Scope
from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.delivery.lifecycle import SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from domain.events.event_type import EventType
from domain.events.examples import example_facts
from domain.urls.rules import UrlRefused
from domain.wire.bodies import MAIN, legacy_body, modern_body, modern_data_text
from domain.wire.jsontext import JsonValue
from storage.access.audit import MASK
from storage.deliveries.figures import (
    COUNTED_OPEN,
    WAITING_COUNTED,
    failing_subscriptions,
    open_deliveries,
    traffic_of_day,
)
from storage.deliveries.log import delivery_page
from storage.listing import Condition, Operator
from storage.subscriptions.queries import (
    FIELDS_AND_STATUS,
    SHOWN_FAILING,
    SubscriptionRow,
    find_subscription,
    subscription_page,
)

TEST_MARGIN_SECONDS = 5.0
"""Wait for a saved webhook's test beyond the timeout of its request. A longer test is shown as under way."""

DELIVERIES_SHOWN = 10

NO_RETRIES = "none"
_HEADER = re.compile(r"headers\.(\d{1,4})\.headerName")
_DELAY = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_SWITCHES = ("legacy", "hmacEnabled", "ordered")
_NUMBERS = ("rateLimitPerSecond", "maxConcurrency", "timeoutSeconds")
_CHOICES = {"orderKey": "subscription", "afterExhausted": "skip"}
_TEXTS = ("idempotencyKey", "eventName", "url", "name", "activeFrom", "retrySchedule", *_NUMBERS)
EMPTY: Mapping[str, Any] = {**dict.fromkeys(_TEXTS, ""), **dict.fromkeys(_SWITCHES, False), **_CHOICES, "headers": ()}
"""Values of an empty form."""
NEW = {**EMPTY, "hmacEnabled": True}
"""Default values of a new webhook's form."""

pages = PanelRoutes()


@dataclass(frozen=True)
class WebhookForm:
    """Body of the API made from a form; `rows` are the form's row numbers of its headers."""

    body: dict[str, JsonValue]
    rows: Sequence[int] = ()

    def placed(self, error: ApiError) -> ApiError:
        """Return the error with the form's field names: headers by their row, a delay by its schedule."""
        if not isinstance(error, ValidationFailed):
            return error
        return ValidationFailed([self._placed(problem) for problem in error.problems])

    def _placed(self, problem: Problem) -> Problem:
        first, _, rest = problem.path.partition(".")
        place, _, name = rest.partition(".")
        if first == "headers" and place.isdigit() and int(place) < len(self.rows):
            return Problem(f"headers.{self.rows[int(place)]}.{name}", problem.code, problem.message)
        if first == "retrySchedule" and rest:
            return Problem(first, problem.code, f"delay {int(rest) + 1}: {problem.message}")
        return problem


@pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """Show the table."""
    listing = page.listing(FIELDS_AND_STATUS)
    async with page.resources.database.transaction() as connection:
        rows = await subscription_page(
            connection, page.store_code, listing.conditions, listing.order, listing.items, listing.offset
        )
        ids = [row.id for row in rows.rows]
        traffic = await traffic_of_day(connection, page.store_code, ids)
        failing = await failing_subscriptions(connection, page.store_code, most=len(ids), ids=ids)
    return page.render(
        "webhooks/list.html",
        found=rows,
        listing=listing,
        traffic={one.id: one for one in traffic},
        failing={one.id: one for one in failing},
        statuses=[(status, status) for status in (SHOWN_FAILING, *SubscriptionStatus)],
        counted_most=WAITING_COUNTED,
    )


@pages.get("/{storeCode}/webhooks/new", Scope.SUBSCRIPTION_WRITE)
async def added(page: Page) -> Response:
    """Show the form of a new webhook."""
    return _form(page, {**NEW, "eventName": page.query("eventName"), "idempotencyKey": str(uuid4())})


@pages.post("/{storeCode}/webhooks/new", Scope.SUBSCRIPTION_WRITE)
async def created(page: Page) -> Response:
    """Create the webhook and show its signing key once."""
    sent = read_webhook(page.form, page.zone)
    given = page.form.text("idempotencyKey")
    key = given if KEY.fullmatch(given) else None
    try:
        body = validate(SubscriptionCreate, sent.body)
        created_id, secret = await create_once(page.resources, page.store_code, page.principal, body, key)
    except (ValidationFailed, Conflict) as error:
        return _refused(page, sent, error)
    text = t("webhooks.created", name=body.name or body.event_name)
    return await saved(page, await page.found(find_subscription, created_id), text, secret)


@pages.get("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def edited(page: Page) -> Response:
    """Show the form of an existing webhook. Unset fields stay empty, so that placeholders show the defaults."""
    row = await found(page)
    details = details_of(row, page.resources).model_dump(by_alias=True)
    unset = {"retrySchedule": row.retry_schedule, "maxConcurrency": row.max_concurrency}
    return _form(page, fields_of({**details, **unset, "timeoutSeconds": row.timeout_seconds}, page.zone), row)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def changed(page: Page) -> Response:
    """Save the webhook. A signing key created by switching signing on is shown once."""
    row = await found(page)
    sent = read_webhook(page.form, page.zone, row.active_from)
    try:
        body = validate(SubscriptionUpdate, sent.body)
        secret = await page.actions(Editor).change(row, body)
    except (ValidationFailed, Conflict) as error:
        return _refused(page, sent, error, row)
    text = t("webhooks.changed", name=body.name or row.event_name)
    return await saved(page, row, text, secret)


@pages.post("/{storeCode}/webhooks/check", Scope.SUBSCRIPTION_WRITE)
async def checked(page: Page) -> Response:
    """Return the API's errors and warning about the form, for its script. Resolves the URL's host; never connects."""
    sent, warning = read_webhook(page.form, page.zone), None
    try:
        body = validate(SubscriptionCreate, sent.body)
        warning = (await page.actions(Editor).check(body, body.event_name)).warning
    except ValidationFailed as error:
        page.refused(sent.placed(error))
        # Other fields may be invalid: the URL is checked all the same, as it is typed.
        if "url" not in page.errors:
            try:
                warning = (await page.resources.url_check.check(page.form.text("url"))).warning
            except UrlRefused as refused:
                page.errors["url"] = refused.message
    return JSONResponse({"errors": page.errors, "warning": warning})


@pages.post("/{storeCode}/webhooks/draft-test", Scope.SUBSCRIPTION_WRITE)
async def draft_tested(page: Page) -> Response:
    """Send a test of the form's draft, and return its request and response for the form's script. Saves nothing."""
    sent = read_webhook(page.form, page.zone)
    saved_id = page.form.text("webhookSubscriptionId")
    stored = await page.found(find_subscription, parse_id(saved_id)) if saved_id else None
    try:
        body = validate(SubscriptionCreate, sent.body)
        result = await page.actions(DraftTests).send_draft(body, stored)
    except (ValidationFailed, TooManyTests, Unavailable) as error:
        page.refused(sent.placed(error))
        return JSONResponse({"errors": page.errors})
    why = EXPLANATIONS[FailureKind(result.failure)] if result.failure else None
    return page.render("webhooks/draft_test.html", method="POST", url=body.url, result=result, why=why)


@pages.get("/{storeCode}/webhooks/samples/{eventName}", Scope.SUBSCRIPTION_WRITE)
async def sample(page: Page) -> Response:
    """Return the event's description and its bodies for a receiver of this store, for the form's script."""
    event_type = CATALOGUE.get(page.request.path_params["eventName"])
    if event_type is None:
        raise NotFound
    return page.render("webhooks/sample.html", event_type=event_type, bodies=_bodies(event_type, page))


@pages.get("/{storeCode}/webhooks/{webhookSubscriptionId}", Scope.SUBSCRIPTION_READ)
async def shown(page: Page) -> Response:
    """Show a webhook: its state, its settings and its operator actions."""
    row = await found(page)
    resources, of_webhook = page.resources, Condition("webhookSubscriptionId", Operator.EQ, row.id)
    async with resources.database.transaction() as connection:
        traffic = await traffic_of_day(connection, page.store_code, [row.id])
        failing = await failing_subscriptions(connection, page.store_code, most=1, ids=[row.id])
        waiting = await open_deliveries(connection, page.store_code, row.id)
        deliveries = await delivery_page(connection, page.store_code, [of_webhook], None, DELIVERIES_SHOWN)
    details = await checked_details_of(row, resources)
    return page.render(
        "webhooks/shown.html",
        webhook=details,
        event_type=CATALOGUE.get(row.event_name),
        schedule=shown_schedule(details.retry_schedule),
        traffic=traffic[0] if traffic else None,
        failing=failing[0] if failing else None,
        waiting=waiting,
        counted_most=COUNTED_OPEN,
        waiting_most=WAITING_COUNTED,
        deliveries=deliveries.rows,
    )


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/test", Scope.DELIVERY_ACT, refused="webhooks.shown")
async def tested(page: Page) -> Response:
    """Send a test of a saved webhook, and show its delivery."""
    row, tests = await found(page), page.actions(DraftTests)
    message_id = await tests.send_saved(row)
    seconds = row.timeout_seconds or page.resources.settings.request_timeout_seconds
    await tests.saved_ended(row, message_id, seconds + TEST_MARGIN_SECONDS)
    return await page.done(t("webhooks.tested"), "deliveries.shown", messageId=message_id)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/status", Scope.SUBSCRIPTION_WRITE, refused="webhooks.shown")
async def status_changed(page: Page) -> Response:
    """Pause, resume, disable or enable the webhook, as the field `act` says."""
    action = page.form.text("act")
    if action not in get_args(StatusAction):
        raise NotFound
    changing = page.actions(OperatorActions).change_status
    row = await changing(page.id("webhookSubscriptionId"), cast(StatusAction, action))
    return await page.done(t(f"webhooks.done_{action}", name=row.name or row.event_name), "webhooks.shown")


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/rotate", Scope.SUBSCRIPTION_WRITE, refused="webhooks.shown")
async def rotated(page: Page) -> Response:
    """Create a new signing key and show it once."""
    row = await found(page)
    async with page.resources.database.transaction() as connection:
        await page.take_once(connection)
        secret, _ = await page.actions(Editor).rotate(connection, row.id)
    return await saved(page, row, t("webhooks.rotated", name=row.name or row.event_name), secret)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/delete", Scope.SUBSCRIPTION_WRITE)
async def deleted(page: Page) -> Response:
    """Delete the webhook and cancel its waiting deliveries."""
    row = await found(page)
    await page.actions(Editor).remove(row)
    return await page.done(t("webhooks.deleted", name=row.name or row.event_name), "webhooks.listed")


def _bodies(event_type: EventType, page: Page) -> tuple[bytes, list[bytes]]:
    """Return the modern body and the legacy bodies of the event's sample, as a receiver of this store gets them."""
    facts = replace(example_facts(event_type), store_code=page.store_code)
    modern = modern_body(facts, modern_data_text(facts.name, facts.data_text), uuid4(), uuid4())
    form = event_type.legacy
    variants = [] if form is None else [MAIN, *([form.second.variant] if form.second else [])]
    return modern, [legacy_body(facts, variant, page.store.timezone) for variant in variants]


async def found(page: Page) -> SubscriptionRow:
    """Return the webhook of the path. Raises NotFound."""
    return await page.found(find_subscription, page.id("webhookSubscriptionId"))


async def saved(page: Page, row: SubscriptionRow, text: str, secret: str | None = None) -> Response:
    """Redirect to the webhook's page with a notice; show a new signing key first."""
    if secret is None:
        return await page.done(text, "webhooks.shown", webhookSubscriptionId=row.id)
    return page.render("webhooks/key.html", webhook=row, secret=secret, text=text)


def _refused(page: Page, sent: WebhookForm, error: ApiError, row: SubscriptionRow | None = None) -> Response:
    page.status = 400
    page.refused(sent.placed(error))
    for place in emptied(page.form):
        page.errors.setdefault(f"headers.{place}.headerValue", t("webhooks.header_again"))
    return _form(page, fields_again(page.form), row)


def _form(page: Page, fields: dict[str, Any], row: SubscriptionRow | None = None) -> Response:
    settings = page.resources.settings
    event_type = CATALOGUE.get(row.event_name if row else fields.get("eventName", ""))
    return page.render(
        "webhooks/form.html",
        webhook=row,
        fields=fields,
        events=list(CATALOGUE.values()),
        event_type=event_type,
        bodies=_bodies(event_type, page) if event_type else None,
        now=datetime.now(page.zone).strftime("%Y-%m-%d %H:%M"),
        default_schedule=shown_schedule(settings.retry_schedule_seconds),
        default_concurrency=settings.subscription_concurrency,
        default_timeout=f"{settings.request_timeout_seconds:g}",
    )


def read_webhook(form: Form, zone: ZoneInfo, active_from: datetime | None = None) -> WebhookForm:
    """Convert the form to a body without validation. Unreadable values stay text, for the API's validation to refuse.

    An unchanged `activeFrom` keeps the stored instant, because two instants look the same when clocks are set back.
    """
    headers = {place: (name, value) for place, name, value in _header_rows(form) if name or value}
    body: dict[str, JsonValue] = {
        "url": form.text("url"),
        "name": form.text("name") or None,
        "activeFrom": _instant(form.text("activeFrom"), zone, active_from),
        "retrySchedule": _schedule(form.text("retrySchedule")),
        "headers": [{"headerName": name, "headerValue": value} for name, value in headers.values()],
        **{name: form.flag(name) for name in _SWITCHES},
        **{name: form.number(name) for name in _NUMBERS},
        **{name: form.text(name, usual) for name, usual in _CHOICES.items()},
    }
    if "eventName" in form:
        body["eventName"] = form.text("eventName")
    return WebhookForm(body, list(headers))


def _header_rows(form: Form) -> Iterable[tuple[int, str, str]]:
    """Yield row number, name and value of each header row."""
    for place in sorted({int(found[1]) for field, _ in form if (found := _HEADER.fullmatch(field)) is not None}):
        yield place, form.text(f"headers.{place}.headerName"), form.raw(f"headers.{place}.headerValue")


def _instant(text: str, zone: ZoneInfo, stored: datetime | None) -> JsonValue:
    try:
        typed = moment(text, zone, "activeFrom")
    except ValidationFailed:
        return text
    if typed is None:
        return None
    return (stored if stored is not None and for_field(typed, zone) == for_field(stored, zone) else typed).isoformat()


def _schedule(text: str) -> JsonValue:
    """Convert `5s, 10m, 1h` to seconds, `none` to an empty schedule and no text to None, the installation's."""
    if not text or text.lower() == NO_RETRIES:
        return [] if text else None
    delays = [(part, _DELAY.fullmatch(part.lower())) for part in re.split(r"[,;]\s*|\s+", text) if part]
    return [part if found is None else int(found[1]) * _UNITS[found[2]] for part, found in delays]


def shown_schedule(delays: Iterable[int] | None) -> str:
    """Format delays for the form; empty for None."""
    if delays is None:
        return ""
    parts = []
    for seconds in delays:
        unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
        parts.append(f"{seconds // _UNITS[unit]}{unit}")
    return ", ".join(parts) or NO_RETRIES


class HeaderRow(NamedTuple):
    """Header row of the form. `value` is empty or the mask of a stored value: a page never contains a header value."""

    place: int
    name: str
    value: str


def fields_of(values: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Convert a stored subscription's details (camelCase) to form values."""
    names = [header["headerName"] for header in values["headers"]]
    return {
        **EMPTY,
        **values,
        "activeFrom": for_field(values["activeFrom"], zone),
        "retrySchedule": shown_schedule(values["retrySchedule"]),
        "headers": [HeaderRow(place, name, MASK) for place, name in enumerate(names)],
    }


def fields_again(form: Form) -> dict[str, Any]:
    """Return the submitted fields for a form that is shown again. Header values must be entered again."""
    headers = [HeaderRow(place, name, MASK if value == MASK else "") for place, name, value in _header_rows(form)]
    sent = {name: form.text(name) for name in (*_TEXTS, *_CHOICES)}
    return {**sent, **{name: form.flag(name) for name in _SWITCHES}, "headers": headers}


def emptied(form: Form) -> list[int]:
    """Return the row numbers of the headers whose values `fields_again` removed."""
    return [place for place, _, value in _header_rows(form) if value not in ("", MASK)]
