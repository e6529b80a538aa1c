"""Trying a receiver before its webhook is saved: checked as when it is saved, sent by a worker, waited for."""

import asyncio
import secrets
from dataclasses import dataclass
from uuid import UUID, uuid4

from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from api.errors import TooManyTests, Unavailable
from api.resources import Resources
from api.subscriptions.models import SubscriptionCreate
from api.subscriptions.service import Editor, headers_after
from api.temporal_calls import temporal_call
from domain.wire.signing import SECRET_BYTES, format_secret
from storage.access.audit import record
from storage.operations.draft_tests import (
    TRIAL_SECONDS,
    TRIALS_A_MINUTE,
    Draft,
    TrialResult,
    give_up_trial,
    open_trial,
    trial_result,
)
from storage.subscriptions.queries import SubscriptionRow, open_headers, seal_headers, sealed_key

ANSWER_SECONDS = TRIAL_SECONDS + 2.0  # Temporal says that the time is over a moment after it is
NO_WORKER = "No worker has taken the test. Is one running?"
LOST = "The worker died while it sent the test, so what came of it is not known. Try again."


@dataclass(frozen=True, slots=True)
class Trials:
    """Tests of one person in one store."""

    resources: Resources
    store_code: str
    actor: str

    async def try_out(self, body: SubscriptionCreate, saved: SubscriptionRow | None = None) -> TrialResult:
        """Send a sample of the event as this webhook would. `saved` is the webhook that is being edited: masks stand
        for its header values, and its key signs. Raises ValidationFailed, TooManyTests, Unavailable.
        """
        editor = Editor(self.resources, self.store_code, self.actor)
        checked = await editor.check(body, body.event_name)
        trial_id = uuid4()
        draft = await self._draft(body, checked.url.url, saved)
        async with self.resources.database.transaction() as connection:
            if wait := await open_trial(connection, trial_id, draft):
                raise TooManyTests(TRIALS_A_MINUTE, wait)
            await record(
                connection,
                actor=self.actor,
                action="try",
                object_type="subscription" if saved else "trial",
                object_id=saved.id if saved else trial_id,
                store_code=self.store_code,
                changes={"event_name": draft.event_name, "url": draft.url},
            )
        try:
            await self._sent(trial_id, draft.url)
        finally:
            async with self.resources.database.transaction() as connection:
                await give_up_trial(connection, trial_id)
                result = await trial_result(connection, trial_id)
        if result is None:
            raise Unavailable(LOST)
        return result

    async def _draft(self, body: SubscriptionCreate, url: str, saved: SubscriptionRow | None) -> Draft:
        sealer = self.resources.sealer
        stored = open_headers(saved.sealed_headers, sealer) if saved else []
        key, version = None, 1
        if body.hmac_enabled and saved is not None and saved.hmac_enabled:
            async with self.resources.database.transaction() as connection:
                key, version = await sealed_key(connection, saved.id), saved.signature_version
        elif body.hmac_enabled:  # its own key is made when it is saved
            key = sealer.seal(format_secret(secrets.token_bytes(SECRET_BYTES)))
        headers = seal_headers(headers_after(stored, body.given_headers or []), sealer)
        return Draft(self.store_code, body.event_name, url, body.legacy, headers, key, version)

    async def _sent(self, trial_id: UUID, url: str) -> None:
        async with temporal_call():
            await self.resources.acting.try_webhook(trial_id, url)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.resources.acting.trial_ended(trial_id)
        except (TimeoutError, WorkflowFailureError, RPCError) as error:
            raise Unavailable(NO_WORKER) from error
