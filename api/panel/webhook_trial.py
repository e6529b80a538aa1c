"""Settings → Webhooks: tests of a receiver, before its webhook is saved and after."""

import asyncio
from contextlib import suppress

from starlette.responses import JSONResponse, Response
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from api.actions.draft_tests import Trials
from api.actions.service import Acts
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

TEST_SECONDS = 20.0  # the request's own 15 s and room; the page shows a test that takes longer as under way


@pages.post("/{storeCode}/webhooks/try", Scope.SUBSCRIPTION_WRITE)
async def tried(page: Page) -> Response:
    """For the form's script: send a sample as the form has it; the request and what came back. Saves nothing."""
    sent = read_webhook(page.form, page.zone)
    saved_id = page.form.text("webhookSubscriptionId")
    saved = await found(page, parse_id(saved_id)) if saved_id else None
    try:
        body = validate(SubscriptionCreate, sent.body)
        result = await Trials(page.resources, page.store_code, page.actor).try_out(body, saved)
    except ValidationFailed as error:
        return _refused(page, sent.placed(error))
    except (TooManyTests, Unavailable) as error:
        return _refused(page, error)
    why = EXPLANATIONS[FailureKind(result.failure)] if result.failure else None
    sent_body = _pretty(result.sent_body)
    return page.fragment("webhooks/trial.html", method="POST", url=body.url, body=sent_body, result=result, why=why)


@pages.post("/{storeCode}/webhooks/{webhookSubscriptionId}/test", Scope.DELIVERY_ACT)
async def tested(page: Page) -> Response:
    """Send a sample to a webhook that is there, and look at its delivery."""
    row = await found(page, page.id("webhookSubscriptionId"))
    try:
        message_id = await Acts(page.resources, page.store_code, page.actor).send_test(row)
    except (Conflict, Unavailable) as refused:
        return await page.done(refused.message, "webhooks.shown", kind="danger", webhookSubscriptionId=row.id)
    with suppress(TimeoutError, RPCError, WorkflowFailureError):
        async with asyncio.timeout(TEST_SECONDS):
            await page.resources.acting.test_ended(row.id)
    return await page.done(t("webhooks.tested"), "delivery.shown", messageId=message_id)


def _refused(page: Page, error: ApiError) -> Response:
    page.refused(error)
    return JSONResponse({"errors": page.errors})


def _pretty(text: str | None) -> str:
    try:
        return pretty(text or "")
    except JsonTextError:
        return text or ""
