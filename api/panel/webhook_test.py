"""Settings → Webhooks: tests of a webhook, before and after it is saved."""

from starlette.responses import JSONResponse, Response

from api.actions.draft_tests import DraftTests
from api.body import validate
from api.errors import ApiError, Conflict, TooManyTests, Unavailable, ValidationFailed
from api.ids import parse_id
from api.panel.page import Page, PanelRoutes
from api.panel.texts import t
from api.panel.webhook_fields import read_webhook
from api.panel.webhook_form import found
from api.subscriptions.models import SubscriptionCreate
from domain.access import Scope
from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.wire.jsontext import JsonTextError, pretty

pages = PanelRoutes()

TEST_SECONDS = 20.0
"""Maximum wait for a saved webhook's test: the 15 s of a request, and margin. A longer test is shown as under way."""


@pages.post("/{storeCode}/webhooks/draft-test", Scope.SUBSCRIPTION_WRITE)
async def draft_tested(page: Page) -> Response:
    """Send a test of the form's draft, and return its request and response for the form's script. Saves nothing."""
    sent = read_webhook(page.form, page.zone)
    saved_id = page.form.text("webhookSubscriptionId")
    saved = await found(page, parse_id(saved_id)) if saved_id else None
    try:
        body = validate(SubscriptionCreate, sent.body)
        result = await DraftTests(page.resources, page.store_code, page.actor).send_draft(body, saved)
    except ValidationFailed as error:
        return _refused(page, sent.placed(error))
    except (TooManyTests, Unavailable) as error:
        return _refused(page, error)
    why = EXPLANATIONS[FailureKind(result.failure)] if result.failure else None
    sent_body = _pretty(result.sent_body)
    return page.fragment(
        "webhooks/draft_test.html", method="POST", url=body.url, body=sent_body, result=result, why=why
    )


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/test", Scope.DELIVERY_ACT)
async def tested(page: Page) -> Response:
    """Send a test of a saved webhook, and show its delivery."""
    row = await found(page, page.id("webhookSubscriptionId"))
    tests = DraftTests(page.resources, page.store_code, page.actor)
    try:
        message_id = await tests.send_saved(row)
    except (Conflict, Unavailable) as refused:
        return await page.done(refused.message, "webhooks.shown", kind="danger", webhookSubscriptionId=row.id)
    await tests.saved_ended(row, message_id, TEST_SECONDS)
    return await page.done(t("webhooks.tested"), "delivery.shown", messageId=message_id)


def _refused(page: Page, error: ApiError) -> Response:
    page.refused(error)
    return JSONResponse({"errors": page.errors})


def _pretty(text: str | None) -> str:
    try:
        return pretty(text or "")
    except JsonTextError:
        return text or ""
