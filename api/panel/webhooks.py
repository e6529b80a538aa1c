"""Settings → Webhooks: list and page of a store's subscriptions, their operator actions, and their form.

Each field of the form has the name of the API's path, so that the API's errors can be shown beside it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast, get_args
from urllib.parse import parse_qsl
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

from api.actions.draft_tests import CheckedDraft, DraftTests
from api.actions.service import OperatorActions, StatusAction
from api.body import validate
from api.errors import (
    ApiError,
    BadCredentials,
    Conflict,
    Forbidden,
    NotFound,
    Problem,
    TooManyTests,
    Unavailable,
    ValidationFailed,
    invalid,
)
from api.idempotency import KEY
from api.ids import is_id, parse_id
from api.listing import ITEMS_MOST
from api.login.credentials import CREDENTIAL_MOST, judged
from api.panel.event_types import by_family, samples_of
from api.panel.frame.forms import Form, for_field, moment
from api.panel.frame.page import SEE_OTHER, Page, PanelRoutes
from api.panel.texts import t
from api.subscription_sets.service import stored_of
from api.subscriptions.models import NAME_MOST, SubscriptionCreate, SubscriptionUpdate
from api.subscriptions.service import Editor, Prepared, checked_details_of, create_once
from domain.access import Scope
from domain.delivery.failure_kinds import FailureExplanation, failure_explanation, failure_in_words
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from domain.urls.rules import UrlRefused
from domain.urls.targets import webhook_label, webhook_title
from domain.wire.authentication import FIELDS, OPTIONAL, SECRETS
from domain.wire.bodies import TEST
from domain.wire.excerpts import MASK
from domain.wire.jsontext import JsonValue
from domain.wire.signing import MalformedSecretError, secret_keys
from storage.deliveries.figures import (
    COUNTED_OPEN,
    WAITING_COUNTED,
    failing_subscriptions,
    open_deliveries,
    traffic_of_day,
)
from storage.deliveries.log import AttemptRow, DeliveryRow, attempts_of, delivery_page, find_delivery
from storage.listing import Condition, Operator
from storage.subscriptions.queries import (
    FIELDS_AND_STATUS,
    SHOWN_FAILING,
    SubscriptionRow,
    find_subscription,
    open_authentication,
    open_headers,
    sharing_key,
    subscription_page,
    subscriptions_with_header,
)
from storage.subscriptions.tables import DraftTest

TEST_MARGIN_SECONDS = 5.0
"""Wait for a saved webhook's test beyond the timeout of its request. A longer test is shown as under way."""

DELIVERIES_SHOWN = 10
HEADER_FILTER = "headerName[like]"
"""Filter by the name of a header. Headers are encrypted, so it is no field of the list's SQL."""
BULK_ACTIONS = ("pause", "resume", "test", "delete")

NO_RETRIES = "none"
_HEADER = re.compile(r"headers\.(\d{1,4})\.headerName")
_DELAY = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_SWITCHES = ("legacy", "hmacEnabled", "ordered")
_NUMBERS = ("rateLimitPerSecond", "maxConcurrency", "timeoutSeconds")
_CHOICES = {"orderKey": "subscription", "afterExhausted": "skip"}
_TEXTS = ("idempotencyKey", "copyOf", "hmacSecret", "url", "name", "activeFrom", "retrySchedule", *_NUMBERS)
_LISTS = ("headers", "eventNames")
EMPTY: Mapping[str, Any] = {
    **dict.fromkeys(_TEXTS, ""),
    **dict.fromkeys(_SWITCHES, False),
    **_CHOICES,
    **dict.fromkeys(_LISTS, ()),
    "authentication": {},
}
"""Values of an empty form."""
NEW = {**EMPTY, "hmacEnabled": True}
"""Default values of a new webhook's form."""

pages = PanelRoutes()


class SavedTest(NamedTuple):
    """Test of a saved webhook, with its attempt once it has begun."""

    delivery: DeliveryRow
    attempt: AttemptRow | None


class TestOfDraft(NamedTuple):
    """Test of a form's event: its result, with an explanation of a failure, or why none was sent."""

    event_name: str
    result: DraftTest | None = None
    why: FailureExplanation | None = None
    refused: ApiError | None = None


@dataclass(frozen=True)
class WebhookForm:
    """Body of the API made from a form; `rows` are the form's row numbers of its headers.

    A new webhook is made for each of `events`.
    """

    body: dict[str, JsonValue]
    rows: Sequence[int] = ()
    events: Sequence[str] = ()

    def created(self) -> list[SubscriptionCreate]:
        """Return a validated body for each event. Raises ValidationFailed."""
        if not self.events:
            return [validate(SubscriptionCreate, self.body)]  # which tells that the event is missing, and all else
        return [validate(SubscriptionCreate, {**self.body, "eventName": name}) for name in self.events]

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
        if problem.path == "authentication":
            return Problem("authentication.type", problem.code, problem.message)
        if first == "retrySchedule" and rest:
            return Problem(first, problem.code, f"delay {int(rest) + 1}: {problem.message}")
        return problem


@pages.get("/{storeCode}/webhooks", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """Show the table."""
    listing, part = page.listing(FIELDS_AND_STATUS, besides=(HEADER_FILTER,)), page.query(HEADER_FILTER)
    conditions = list(listing.conditions)
    if part:
        with_header = await page.read(subscriptions_with_header, part, page.resources.sealer)
        conditions.append(Condition("webhookSubscriptionId", Operator.IN, with_header))
    async with page.resources.database.transaction() as connection:
        rows = await subscription_page(
            connection, page.store_code, conditions, listing.order, listing.items, listing.offset
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
    """Show the form of new webhooks, with the values of the webhook `copyOf` if it is given."""
    fields: Mapping[str, Any] = {**NEW, "eventNames": [page.query("eventName")]}
    if copied := page.query("copyOf"):
        row = await page.found(find_subscription, parse_id(copied))
        name = t("webhooks.copy_of", name=row.name)[:NAME_MOST] if row.name else ""
        fields = {**_stored_fields(page, row), "name": name, "eventNames": [row.event_name], "copyOf": copied}
    return _form(page, {**fields, "idempotencyKey": str(uuid4())})


@pages.post("/{storeCode}/webhooks/new", Scope.SUBSCRIPTION_WRITE)
async def created(page: Page) -> Response:
    """Create a webhook for each event, all or none, and show their signing key."""
    sent = read_webhook(page.form, page.zone)
    given = page.form.text("idempotencyKey")
    key = given if KEY.fullmatch(given) else None
    try:
        bodies, prepared = sent.created(), await _prepared(page)
        made = await create_once(page.resources, page.store_code, page.principal, bodies, key, prepared)
    except Conflict:
        return _refused(page, sent, Conflict(t("webhooks.saved_before")))
    except ValidationFailed as error:
        return _refused(page, sent, error)
    (created_id, secret), url = made[0], bodies[0].url
    if len(made) == 1:
        text = t("webhooks.created", name=webhook_title(bodies[0].name, url))
        return await _saved(page, text, secret, page.url("webhooks.shown", webhookSubscriptionId=created_id))
    text = t("webhooks.created_together", count=len(made), target=webhook_title(None, url))
    ids = ",".join(str(one) for one, _ in made)
    return await _saved(page, text, secret, page.url("webhooks.listed", {"webhookSubscriptionId[in]": ids}))


@pages.get("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def edited(page: Page) -> Response:
    """Show the form of an existing webhook."""
    row = await found(page)
    return _form(page, _stored_fields(page, row), row)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def changed(page: Page) -> Response:
    """Save the webhook, and show the signing key if this switches signing on."""
    row = await found(page)
    sent = read_webhook(page.form, page.zone, row.active_from)
    try:
        body = validate(SubscriptionUpdate, sent.body)
        secret = await page.actions(Editor).change(row, body, (await _prepared(page)).secret)
    except (ValidationFailed, Conflict) as error:
        return _refused(page, sent, error, row)
    text = t("webhooks.changed", name=webhook_title(body.name, body.url))
    return await _saved(page, text, secret, page.url("webhooks.shown"))


@pages.post("/{storeCode}/webhooks/check", Scope.SUBSCRIPTION_WRITE)
async def checked(page: Page) -> Response:
    """Return the API's errors and warning about the form, for its script. Resolves the URL's host; never connects."""
    sent, warning = read_webhook(page.form, page.zone), None
    try:
        for body in sent.created():
            warning = (await page.actions(Editor).check(body, body.event_name)).warning
    except ValidationFailed as error:
        page.refused(sent.placed(error))
        # Other fields may be invalid: the URL is checked all the same, as it is typed.
        if "url" not in page.errors:
            try:
                _, warning = await page.resources.url_check.check(page.form.text("url"))
            except UrlRefused as refused:
                page.errors["url"] = refused.message
    return JSONResponse({"errors": page.errors, "warning": warning})


@pages.post("/{storeCode}/webhooks/draft-test", Scope.SUBSCRIPTION_WRITE)
async def draft_tested(page: Page) -> Response:
    """Send a test of each of the form's events, and return requests and responses for its script. Saves nothing."""
    sent = read_webhook(page.form, page.zone)
    saved_id = page.form.text("webhookSubscriptionId")
    stored = await page.found(find_subscription, parse_id(saved_id)) if saved_id else None
    try:
        bodies, prepared, testing = sent.created(), await _prepared(page), page.actions(DraftTests)
        # Every event is checked before the first test is sent, so that a refused form has sent nothing.
        drafts = await asyncio.gather(*(testing.check_draft(body, stored, prepared) for body in bodies))
        tests = await asyncio.gather(*(_draft_tested(testing, draft) for draft in drafts))
        if all(refusals := [one.refused for one in tests]) and refusals[0]:
            raise refusals[0]
    except (ValidationFailed, TooManyTests, Unavailable) as error:
        page.refused(sent.placed(error))
        return JSONResponse({"errors": page.errors})
    return page.render("webhooks/draft_test.html", method="POST", url=bodies[0].url, tests=tests)


async def _draft_tested(testing: DraftTests, draft: CheckedDraft) -> TestOfDraft:
    try:
        result = await testing.send_draft(draft)
    except (TooManyTests, Unavailable) as refusal:
        return TestOfDraft(draft.test.event_name, refused=refusal)
    return TestOfDraft(draft.test.event_name, result, failure_explanation(result.failure))


@pages.post("/{storeCode}/webhooks/chosen", Scope.SUBSCRIPTION_WRITE)
async def chosen(page: Page) -> Response:
    """Pause, resume, test or delete the chosen webhooks, as `act` says. Deleting asks for confirmation first."""
    act = page.form.text("act")
    if act not in BULK_ACTIONS:
        raise NotFound
    if act == "test" and not page.may(Scope.DELIVERY_ACT):
        raise Forbidden
    ids = {parse_id(one) for one in page.form.getlist("webhookSubscriptionId")[:ITEMS_MOST]}
    rows = [row for one in sorted(ids) if (row := await page.read(find_subscription, one)) is not None]
    back = dict(parse_qsl(page.form.text("from")))
    if not rows:
        return await page.done(t("webhooks.none_chosen"), "webhooks.listed", kind="warning", query=back)
    if act == "delete" and not page.form.flag("sure"):
        return page.render("webhooks/chosen.html", rows=rows, list_of=back)
    results = await asyncio.gather(*(_bulk_result(page, row, act) for row in rows))
    done, failed = Counter(text for text, good in results if good), [text for text, good in results if not good]
    said = [*(t("webhooks.bulk_result", count=count, text=text) for text, count in done.items()), *failed]
    kind = "warning" if failed else "success"
    return await page.done("; ".join(said), "webhooks.listed", kind=kind, query=back)


async def _bulk_result(page: Page, row: SubscriptionRow, act: str) -> tuple[str, bool]:
    """Perform the action on one webhook; return its result in words, and True if it succeeded, else with its name."""
    name = webhook_label(row.name, row.event_name, row.url)
    try:
        if act == "delete":
            await page.actions(Editor).remove(row)
        elif act == "test":
            delivery = await page.found(find_delivery, await _send_test(page, row))
            if delivery.status == DeliveryStatus.DELIVERED:
                return t("webhooks.bulk_test_delivered"), True
            failure = delivery.last_failure and failure_in_words(delivery.last_failure, delivery.last_status_code)
            return t("webhooks.bulk_test_failed", name=name, failure=failure or t("webhooks.test_under_way")), False
        else:
            await page.actions(OperatorActions).change_status(row.id, cast(StatusAction, act))
    except (Conflict, NotFound, Unavailable) as refusal:
        return t("webhooks.bulk_refused", name=name, why=refusal.message.rstrip(".")), False
    return t(f"webhooks.bulk_{act}"), True


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
        test = await _test_of(page, connection, row)
        editing = page.may(Scope.SUBSCRIPTION_WRITE)
        sharing = await sharing_key(connection, row, resources.sealer) if editing else []
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
        sharing=sharing,
        test=test,
        under_way=any(one.status in OPEN for one in (*deliveries.rows, *([test.delivery] if test else []))),
    )


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/test", Scope.DELIVERY_ACT, refused="webhooks.shown")
async def tested(page: Page) -> Response:
    """Send a test of a saved webhook, and show its result on the webhook's page."""
    message_id = await _send_test(page, await found(page))
    return page.redirect("webhooks.shown", {"test": message_id})


async def _send_test(page: Page, row: SubscriptionRow) -> UUID:
    tests = page.actions(DraftTests)
    message_id = await tests.send_saved(row)
    seconds = row.timeout_seconds or page.resources.settings.request_timeout_seconds
    await tests.saved_ended(row, message_id, seconds + TEST_MARGIN_SECONDS)
    return message_id


async def _test_of(page: Page, connection: AsyncConnection, row: SubscriptionRow) -> SavedTest | None:
    """Return the webhook's test that the address names, or None."""
    wished = page.query("test")
    delivery = await find_delivery(connection, page.store_code, UUID(wished)) if is_id(wished) else None
    if delivery is None or delivery.subscription_id != row.id or delivery.variant != TEST:
        return None
    attempts = await attempts_of(connection, delivery.message_id)
    return SavedTest(delivery, attempts[-1] if attempts else None)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/status", Scope.SUBSCRIPTION_WRITE, refused="webhooks.shown")
async def status_changed(page: Page) -> Response:
    """Pause, resume, disable or enable the webhook, as the field `act` says."""
    action = page.form.text("act")
    if action not in get_args(StatusAction):
        raise NotFound
    changing = page.actions(OperatorActions).change_status
    row = await changing(page.id("webhookSubscriptionId"), cast(StatusAction, action))
    return await page.done(t(f"webhooks.done_{action}", name=webhook_title(row.name, row.url)), "webhooks.shown")


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/rotate", Scope.SUBSCRIPTION_WRITE, refused="webhooks.shown")
async def rotated(page: Page) -> Response:
    """Create a new signing key and show it."""
    row = await found(page)
    async with page.resources.database.transaction() as connection:
        await page.take_once(connection)
        secret, _, others = await page.actions(Editor).rotate(connection, row)
    text = t("webhooks.rotated", name=_label(row))
    if others:
        text += " " + t("webhooks.rotated_too", names=", ".join(map(_label, others)))
    return await _saved(page, text, secret, page.url("webhooks.shown"))


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/key", Scope.ADMIN, refused="webhooks.shown")
async def key_revealed(page: Page) -> Response:
    """Show the signing key again to an administrator who has entered their password. API keys cannot."""
    row = await found(page)
    try:
        await judged(page.resources, page.principal.name, page.form.raw("password")[:CREDENTIAL_MOST], page.request)
    except BadCredentials:
        await page.resources.database.run(page.actions(Editor).record_refused_reveal, row.id)
        raise invalid("password", "wrong", t("webhooks.password_wrong")) from None
    secret = await page.resources.database.run(page.actions(Editor).reveal_key, row)
    text = t("webhooks.revealed", name=webhook_title(row.name, row.url))
    return await _saved(page, text, secret, page.url("webhooks.shown"))


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/delete", Scope.SUBSCRIPTION_WRITE)
async def deleted(page: Page) -> Response:
    """Delete the webhook and cancel its waiting deliveries."""
    row = await found(page)
    await page.actions(Editor).remove(row)
    return await page.done(t("webhooks.deleted", name=webhook_title(row.name, row.url)), "webhooks.listed")


def _label(row: SubscriptionRow) -> str:
    return webhook_label(row.name, row.event_name, row.url)


async def found(page: Page) -> SubscriptionRow:
    """Return the webhook of the path. Raises NotFound."""
    return await page.found(find_subscription, page.id("webhookSubscriptionId"))


async def _prepared(page: Page) -> Prepared:
    """Return the signing key that the form generated, and the other secrets of the webhook it copies.

    Raises ValidationFailed, NotFound.
    """
    secret, copied = page.form.text("hmacSecret") or None, page.form.text("copyOf")
    if secret is not None:
        try:
            secret_keys(secret)
        except MalformedSecretError as error:
            raise invalid("hmacSecret", "invalid_value", str(error)) from None
    if not copied:
        return Prepared(secret)
    source = await page.found(find_subscription, parse_id(copied))
    sealer = page.resources.sealer
    authentication = open_authentication(source.sealed_authentication, sealer)
    return Prepared(secret, open_headers(source.sealed_headers, sealer), authentication, source)


async def _saved(page: Page, text: str, secret: str | None, address: str) -> Response:
    """Redirect to the address with a notice; show a signing key first."""
    if secret is not None:
        return page.render("webhooks/key.html", secret=secret, text=text, address=address)
    await page.say(text)
    return RedirectResponse(address, SEE_OTHER)


def _stored_fields(page: Page, row: SubscriptionRow) -> dict[str, Any]:
    """Return the form's values of a stored webhook. Unset fields stay empty, so that placeholders show the defaults."""
    stored = stored_of(row, page.resources.sealer)
    return {
        **EMPTY,
        **stored.model_dump(by_alias=True),
        "activeFrom": for_field(row.active_from, page.zone),
        "retrySchedule": shown_schedule(row.retry_schedule),
        "headers": [HeaderRow(place, header.header_name, MASK) for place, header in enumerate(stored.headers)],
        "authentication": stored.authentication or {},
    }


def _refused(page: Page, sent: WebhookForm, error: ApiError, row: SubscriptionRow | None = None) -> Response:
    page.status = 400
    page.refused(sent.placed(error))
    for name in emptied(page.form):
        page.errors.setdefault(name, t("webhooks.secret_again"))
    return _form(page, fields_again(page.form), row)


def _form(page: Page, fields: dict[str, Any], row: SubscriptionRow | None = None) -> Response:
    settings = page.resources.settings
    names = [row.event_name] if row else fields["eventNames"]
    return page.render(
        "webhooks/form.html",
        webhook=row,
        fields=fields,
        families=by_family(),
        samples=samples_of(names, page),
        authentication_fields=FIELDS,
        authentication_optional=OPTIONAL,
        authentications=[(kind, t(f"webhooks.authentication_{kind or 'none'}")) for kind in ("", *FIELDS)],
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
    if "authentication.type" in form:
        body["authentication"] = {**_authentication(form)} or None
    return WebhookForm(body, list(headers), list(dict.fromkeys(filter(None, form.getlist("eventName")))))


def _header_rows(form: Form) -> Iterable[tuple[int, str, str]]:
    """Yield row number, name and value of each header row."""
    for place in sorted({int(found[1]) for field in form if (found := _HEADER.fullmatch(field)) is not None}):
        yield place, form.text(f"headers.{place}.headerName"), form.raw(f"headers.{place}.headerValue")


def _authentication(form: Form) -> dict[str, str]:
    """Return the chosen type with its fields, without empty ones; empty for no authentication."""
    kind = form.text("authentication.type")
    typed = {name: form.raw(f"authentication.{name}") for name in FIELDS.get(kind, ())}
    return {"type": kind, **{name: value for name, value in typed.items() if value}} if kind else {}


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


def fields_again(form: Form) -> dict[str, Any]:
    """Return the submitted fields for a form that is shown again. Secrets must be entered again."""
    headers = [HeaderRow(place, name, MASK if value == MASK else "") for place, name, value in _header_rows(form)]
    sent = {name: form.text(name) for name in (*_TEXTS, *_CHOICES)}
    removed = emptied(form)
    again = {name: "" if f"authentication.{name}" in removed else own for name, own in _authentication(form).items()}
    lists = {"headers": headers, "eventNames": form.getlist("eventName"), "authentication": again}
    return {**sent, **{name: form.flag(name) for name in _SWITCHES}, **lists}


def emptied(form: Form) -> list[str]:
    """Return the names of the fields whose secrets `fields_again` removed."""
    secrets = {f"headers.{place}.headerValue": value for place, _, value in _header_rows(form)}
    secrets |= {f"authentication.{name}": own for name, own in _authentication(form).items() if name in SECRETS}
    return [name for name, value in secrets.items() if value not in ("", MASK)]
