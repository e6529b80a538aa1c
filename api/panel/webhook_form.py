"""Settings → Webhooks: the form that creates or edits a webhook, and the requests of its script."""

from typing import Any
from uuid import UUID, uuid4

from starlette.responses import JSONResponse, Response

from api.body import validate
from api.errors import ApiError, Conflict, NotFound, ValidationFailed
from api.idempotency import KEY
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.panel.webhook_fields import (
    EMPTY,
    WebhookForm,
    emptied,
    fields_again,
    fields_of,
    now_on_clocks,
    read_webhook,
    shown_schedule,
)
from api.subscriptions.models import SubscriptionCreate, SubscriptionUpdate
from api.subscriptions.service import Editor, create_once, details_of
from domain.access import Scope
from domain.events.catalogue import CATALOGUE
from domain.events.event_type import EventType
from domain.events.examples import example_facts
from domain.urls.rules import UrlRefused
from domain.wire.bodies import MAIN, EventFacts, legacy_body, modern_body, modern_data_text
from domain.wire.jsontext import pretty
from storage.subscriptions.queries import SubscriptionRow, find_subscription

pages = PanelRoutes()

NEW = {**EMPTY, "hmacEnabled": True}
"""Default values of a new webhook's form."""


@pages.get("/{storeCode}/webhooks/new", Scope.SUBSCRIPTION_WRITE)
async def added(page: Page) -> Response:
    """Show the form of a new webhook."""
    event_name = page.request.query_params.get("eventName", "")
    return _form(page, {**NEW, "eventName": event_name, "idempotencyKey": str(uuid4())})


@pages.post("/{storeCode}/webhooks/new", Scope.SUBSCRIPTION_WRITE)
async def created(page: Page) -> Response:
    """Create the webhook and show its signing key once."""
    sent = read_webhook(page.form, page.zone)
    key = page.form.text("idempotencyKey")
    try:
        body = validate(SubscriptionCreate, sent.body)
        made = await create_once(
            page.resources, page.store_code, page.principal, body, key if KEY.fullmatch(key) else None
        )
    except (ValidationFailed, Conflict) as error:
        return _refused(page, sent, error)
    text = t("webhooks.created", name=body.name or body.event_name)
    return await saved(page, await found(page, made.id), text, made.secret, made.warning)


@pages.get("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def edited(page: Page) -> Response:
    """Show the form of an existing webhook."""
    row = await found(page, page.id("webhookSubscriptionId"))
    return _form(page, _stored(page, row), row)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/edit", Scope.SUBSCRIPTION_WRITE)
async def changed(page: Page) -> Response:
    """Save the webhook. A signing key created by switching signing on is shown once."""
    row = await found(page, page.id("webhookSubscriptionId"))
    sent = read_webhook(page.form, page.zone, row.active_from)
    editor = Editor(page.resources, page.store_code, page.actor)
    try:
        body = validate(SubscriptionUpdate, sent.body)
        secret, warning = await editor.change(row, body)
    except (ValidationFailed, Conflict) as error:
        return _refused(page, sent, error, row)
    text = t("webhooks.changed", name=body.name or row.event_name)
    return await saved(page, row, text, secret, warning)


@pages.post("/{storeCode}/webhooks/check", Scope.SUBSCRIPTION_WRITE)
async def checked(page: Page) -> Response:
    """Return the API's errors and warning about the form, for its script. Resolves the URL's host; never connects."""
    sent = read_webhook(page.form, page.zone)
    try:
        body = validate(SubscriptionCreate, sent.body)
        warning = (await Editor(page.resources, page.store_code, page.actor).check(body, body.event_name)).warning
    except ValidationFailed as error:
        page.refused(sent.placed(error))
        warning = await _judged_url(page)
    return JSONResponse({"errors": page.errors, "warning": warning})


async def _judged_url(page: Page) -> str | None:
    """Return the warning about the URL when other fields are invalid, so that the URL is checked as it is typed."""
    if "url" in page.errors:
        return None
    try:
        return (await page.resources.url_check.check(page.form.text("url"))).warning
    except UrlRefused as refused:
        page.errors["url"] = refused.message
        return None


@pages.get("/{storeCode}/webhooks/samples/{eventName}", Scope.SUBSCRIPTION_WRITE)
async def sample(page: Page) -> Response:
    """Return the event's description and its bodies for a receiver of this store, for the form's script."""
    event_type = CATALOGUE.get(page.path("eventName"))
    if event_type is None:
        raise NotFound
    return page.fragment("webhooks/sample.html", event_type=event_type, **bodies(event_type, page))


def bodies(event_type: EventType, page: Page) -> dict[str, Any]:
    """Return the `modern` body and the `legacy` bodies of the event's sample, as a receiver of this store gets them."""
    facts = example_facts(event_type)
    facts = EventFacts(facts.event_id, facts.name, page.store_code, facts.created_at, facts.data_text)
    modern = modern_body(facts, modern_data_text(facts.name, facts.data_text), uuid4(), uuid4())
    form = event_type.legacy
    variants = [] if form is None else [MAIN, *([form.second.variant] if form.second else [])]
    legacy = [legacy_body(facts, variant, page.store.timezone) for variant in variants]
    return {"modern": pretty(modern.decode()), "legacy": [pretty(body.decode()) for body in legacy]}


async def found(page: Page, subscription_id: UUID) -> SubscriptionRow:
    """Return the webhook of the id. Raises NotFound."""
    async with page.resources.database.transaction() as connection:
        row = await find_subscription(connection, page.store_code, subscription_id)
    if row is None:
        raise NotFound
    return row


async def saved(
    page: Page, row: SubscriptionRow, text: str, secret: str | None = None, warning: str | None = None
) -> Response:
    """Redirect to the webhook's page with a notice; show a new signing key first."""
    if warning is not None:
        text = f"{text} {t('webhooks.warning', warning=warning)}"
    if secret is None:
        kind = "success" if warning is None else "warning"
        return await page.done(text, "webhooks.shown", kind=kind, webhookSubscriptionId=row.id)
    return page.render("webhooks/key.html", webhook=row, secret=secret, text=text)


def _stored(page: Page, row: SubscriptionRow) -> dict[str, Any]:
    """Return the form values of a stored webhook. Unset fields stay empty, so that placeholders show the defaults."""
    details = details_of(row, page.resources).model_dump(by_alias=True)
    own = {
        "retrySchedule": row.retry_schedule,
        "maxConcurrency": row.max_concurrency,
    }
    return fields_of({**details, **own}, page.zone)


def _refused(page: Page, sent: WebhookForm, error: ApiError, row: SubscriptionRow | None = None) -> Response:
    fields = fields_again(page.form)
    page.errors = {f"headers.{place}.headerValue": t("webhooks.header_again") for place in emptied(page.form)}
    page.refused(sent.placed(error))
    return _form(page, fields, row, status=400)


def _form(page: Page, fields: dict[str, Any], row: SubscriptionRow | None = None, status: int = 200) -> Response:
    settings = page.resources.settings
    event_type = CATALOGUE.get(row.event_name if row else fields.get("eventName", ""))
    return page.render(
        "webhooks/form.html",
        status,
        webhook=row,
        fields=fields,
        events=list(CATALOGUE.values()),
        event_type=event_type,
        shown_bodies=bodies(event_type, page) if event_type else None,
        now=now_on_clocks(page.zone),
        default_schedule=shown_schedule(settings.retry_schedule_seconds),
        default_concurrency=settings.subscription_concurrency,
    )
