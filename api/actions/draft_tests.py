"""Webhook tests: of saved webhooks, recorded in the delivery log, and of drafts, whose response the caller awaits."""

import asyncio
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID, uuid4

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from api.errors import Conflict, TooManyTests, Unavailable
from api.refusals import temporal_call
from api.store_actions import StoreActions
from api.subscriptions.authentication import OAuth2Authentication
from api.subscriptions.models import SubscriptionCreate
from api.subscriptions.service import (
    NOTHING_PREPARED,
    CheckedInput,
    Editor,
    Prepared,
    authentication_after,
    headers_after,
    moves,
    refuse_conflicts,
)
from domain.delivery.timeouts import TEST_SECONDS
from domain.events.catalogue import CATALOGUE
from storage.events.intake import new_event
from storage.subscriptions.draft_tests import (
    DRAFT_TESTS_A_MINUTE,
    draft_test_result,
    forget_test,
    give_up_draft_test,
    insert_test,
    open_draft_test,
)
from storage.subscriptions.queries import (
    SubscriptionRow,
    new_secret,
    open_authentication,
    open_headers,
    seal_authentication,
    seal_headers,
    sealed_key,
)
from storage.subscriptions.tables import DraftTest
from temporal.messages import DraftTestRef

ANSWER_SECONDS = TEST_SECONDS + 2.0
"""Maximum wait for the end of a draft test. Temporal reports a timeout shortly after it has passed."""


class CheckedDraft(NamedTuple):
    """Test of a valid draft, the webhook being edited, and the facts of the audit entry."""

    test: DraftTest
    saved_id: UUID | None
    changes: dict[str, str]


class DraftTests(StoreActions):
    """Tests of one caller in one store."""

    async def send_saved(self, subscription: SubscriptionRow) -> UUID:
        """Start a test of a saved webhook of any status and return the message id of its delivery.

        Raises Conflict while another test of the webhook is in progress, Unavailable.
        """
        event_type = CATALOGUE[subscription.event_name]
        sample = new_event(self.store_code, event_type, uuid4(), event_type.sample, self.resources.sealer)
        async with self.resources.database.transaction() as connection:
            message_id = await insert_test(connection, sample, subscription.id, subscription.url)
            changes = {"messageId": str(message_id)}
            await self.record(connection, "send-test", "subscription", subscription.id, changes)
        started = False
        try:
            async with temporal_call():
                started = await self.resources.starts.start_test(_saved(subscription, message_id), subscription.url)
        finally:
            if not started:
                await self.resources.database.run(forget_test, message_id)
        if not started:
            raise Conflict("Another test of this webhook is being sent; wait until it has ended.")
        return message_id

    async def saved_ended(self, subscription: SubscriptionRow, message_id: UUID, seconds: float) -> None:
        """Wait for the end of a saved webhook's test, for `seconds` at most."""
        with suppress(TimeoutError, RPCError, WorkflowFailureError):
            async with asyncio.timeout(seconds):
                await self.resources.starts.test_ended(_saved(subscription, message_id))

    async def check_draft(
        self, body: SubscriptionCreate, saved: SubscriptionRow | None = None, prepared: Prepared = NOTHING_PREPARED
    ) -> CheckedDraft:
        """Return the test of a draft, which is not sent yet. Raises ValidationFailed.

        `saved` is the webhook being edited: its header values replace the masks, and its key signs. A new webhook takes
        them from `prepared`.
        """
        editor = Editor(self.resources, self.store_code, self.actor)
        checked = await editor.check(body, body.event_name)
        test = await self._draft(body, checked, saved, prepared)
        changes = {"event_name": test.event_name, "url": test.url}
        if isinstance(body.authentication, OAuth2Authentication):
            changes["token_url"] = body.authentication.token_url
        if prepared.source is not None:
            changes["copy_of"] = str(prepared.source.id)
        return CheckedDraft(test, saved.id if saved else None, changes)

    async def send_draft(self, checked: CheckedDraft) -> DraftTest:
        """Send the test and return the request and its response. Raises TooManyTests, Unavailable."""
        draft, saved_id, changes = checked
        async with self.resources.database.transaction() as connection:
            if wait := await open_draft_test(connection, draft):
                message = f"A store may send {DRAFT_TESTS_A_MINUTE} tests a minute; try again in {wait} s."
                raise TooManyTests(message, wait)
            object_type, object_id = ("subscription", saved_id) if saved_id else ("draft_test", draft.id)
            await self.record(connection, "draft-test", object_type, object_id, changes)
        try:
            await self._sent(DraftTestRef(str(draft.id)), draft.url)
        finally:
            async with self.resources.database.transaction() as connection:
                await give_up_draft_test(connection, draft.id)
                result = await draft_test_result(connection, draft.id)
        if result is None:
            raise Unavailable("The worker died while it sent the test, so the outcome is unknown. Try again.")
        return result

    async def _draft(
        self, body: SubscriptionCreate, checked: CheckedInput, saved: SubscriptionRow | None, prepared: Prepared
    ) -> DraftTest:
        sealer, url = self.resources.sealer, checked.url
        moved = moves(url, saved or prepared.source)
        stored = open_headers(saved.sealed_headers, sealer) if saved else prepared.headers
        headers = headers_after(stored, body.given_headers or [], moved=moved)
        known = open_authentication(saved.sealed_authentication, sealer) if saved else prepared.authentication
        authentication = authentication_after(known, body.authentication, checked.validity, moved=moved)
        refuse_conflicts(url, headers, authentication)
        key, version = None, 1
        if body.hmac_enabled and saved is not None and saved.hmac_enabled:
            key, version = await self.resources.database.run(sealed_key, saved.id), saved.signature_version
        elif body.hmac_enabled:
            key = sealer.seal(prepared.secret or new_secret())
        return DraftTest(
            id=uuid4(),
            store_code=self.store_code,
            event_name=body.event_name,
            url=url,
            legacy=body.legacy,
            sealed_headers=seal_headers(headers, sealer),
            sealed_authentication=seal_authentication(authentication, sealer),
            sealed_secret=key,
            signature_version=version,
            timeout_seconds=body.timeout_seconds,
        )

    async def _sent(self, ref: DraftTestRef, url: str) -> None:
        async with temporal_call():
            await self.resources.starts.start_test(ref, url)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.resources.starts.test_ended(ref)
        except TimeoutError as error:
            raise Unavailable(f"No worker has sent the test within {ANSWER_SECONDS:g} s. Is one running?") from error
        except WorkflowFailureError as error:
            raise Unavailable("The test failed on our side and has no outcome; the worker's log says why.") from error
        except RPCError as error:
            raise Unavailable("The outcome of the test is unknown: Temporal cannot be reached; try again.") from error


def _saved(subscription: SubscriptionRow, message_id: UUID) -> DraftTestRef:
    return DraftTestRef(str(message_id), str(subscription.id))
