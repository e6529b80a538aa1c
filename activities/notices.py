"""Operator notices: the activity that sends them, and the watchdog that starts its workflow."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.delivery.failure_kinds import FailureKind
from domain.delivery.identity import notice_workflow_id
from domain.delivery.lifecycle import INTERNAL_ERROR_DELAY_SECONDS
from domain.delivery.notices import NOTICES_A_ROUND, notice_body
from domain.delivery.retry import retry_delay
from domain.delivery.verdict import Answer, VerdictOutcome, verdict
from domain.urls.rules import UrlRefused, UrlRules, normalise_url
from domain.wire.signing import secret_keys, standard_signature
from sending.http.client import OutgoingRequest, Sender
from sending.mail import MailNotSentError, MailSettings, notice_mail, send_mail
from storage.access.stores import find_operator
from storage.access.tables import StoreOperator
from storage.database import Database
from storage.sealing import Sealer
from storage.subscriptions.notices import (
    DueNotice,
    due_mails,
    due_notices,
    forget_notices,
    note_expiring_certificates,
    notice_not_sent,
    notice_sent,
    notices_mailed,
    notices_not_mailed,
    stores_with_due_notices,
)
from temporal.client import START_TIMEOUT
from temporal.guards import guarded
from temporal.messages import NoticeRound, NoticeTask
from temporal.periodic import run_periodically

logger = logging.getLogger(__name__)

WATCH_SECONDS = 5.0
"""Interval of the search for due notices, which are due a minute after the fact."""

HOURLY_SECONDS = 3600.0
"""Interval of the deletion of old notices, and of the search for client certificates that expire soon."""


@dataclass(eq=False)
class NoticeActivities:
    """Operator notices, with an HTTP client of their own: notices and deliveries share no connection."""

    database: Database
    sender: Sender
    sealer: Sealer
    rules: UrlRules
    retry_schedule: tuple[int, ...]
    mail: MailSettings | None

    @activity.defn(name="send-notices")
    async def send_notices(self, task: NoticeTask) -> NoticeRound:
        """Send the due notices of a store, one request at a time. Each result is recorded, so it may be repeated."""
        async with guarded():
            mailed = await self._mail_due(task.store_code)
            return await self._post_due(task.store_code, mailed)

    async def _post_due(self, store_code: str, mailed: int) -> NoticeRound:
        """Post the due notices, oldest first. After a failure the others wait: they go to the same operator."""
        async with self.database.transaction() as connection:
            operator = await find_operator(connection, store_code)
            due = await due_notices(connection, store_code) if operator is not None else []
        sent = 0
        for one in due:
            if operator is None or not await self._post(operator, one):
                return NoticeRound(sent, failed=1, mailed=mailed, more=False)
            sent += 1
        return NoticeRound(sent, failed=0, mailed=mailed, more=len(due) == NOTICES_A_ROUND)

    async def _post(self, operator: StoreOperator, due: DueNotice) -> bool:
        """Send one notice and record the result. Return True if it succeeded."""
        try:
            result = await self.sender.send(self._request(operator, due))
        except UrlRefused:
            judged = verdict(Answer(None, FailureKind.blocked))
        else:
            judged = verdict(result.answer)
        if judged.failure is None:
            await self.database.run(notice_sent, due.notice.id)
            return True
        again, ours = None, judged.outcome is VerdictOutcome.REPEAT
        if ours:
            again = INTERNAL_ERROR_DELAY_SECONDS
        elif judged.outcome is VerdictOutcome.RETRY:
            again = self._retry_seconds(due, judged.retry_after_seconds)
        await self.database.run(
            notice_not_sent, due.notice.id, failure=judged.failure, next_in_seconds=again, counts=not ours
        )
        logger.log(
            logging.INFO if again is not None else logging.WARNING,
            "sending notice %s of store %s failed (attempt %d, %s), %s",
            due.notice.id,
            due.notice.store_code,
            due.attempts + 1,
            judged.failure,
            "given up" if again is None else f"retrying in {again:.0f} s",
        )
        return False

    def _request(self, operator: StoreOperator, due: DueNotice) -> OutgoingRequest:
        """Build the request of a notice. Raises `UrlRefused`, and `SealBrokenError` if the key cannot be opened."""
        target = normalise_url(operator.url, self.rules)
        secrets = [self.sealer.open(operator.sealed_secret)]
        if operator.sealed_previous_secret is not None:
            secrets.append(self.sealer.open(operator.sealed_previous_secret))
        body = notice_body(due.notice)
        message_id, timestamp = str(due.notice.id), int(time.time())
        signatures = [standard_signature(secret_keys(secret)[1], message_id, timestamp, body) for secret in secrets]
        headers = [
            ("webhook-id", message_id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", " ".join(signatures)),
        ]
        return OutgoingRequest(url=target, headers=headers, body=body, redact=tuple(secrets))

    def _retry_seconds(self, due: DueNotice, retry_after_seconds: float | None = None) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        return retry_delay(self.retry_schedule, due.attempts + 1, due.notice.id, retry_after_seconds)

    async def _mail_due(self, store_code: str) -> int:
        """Send all due notices in one mail. Return the number of mailed notices."""
        if self.mail is None:
            return 0
        due = await self.database.run(due_mails, store_code)
        if not due:
            return 0
        notices = [one.notice for one in due]
        try:
            await send_mail(self.mail, notice_mail(self.mail, store_code, notices))
        except MailNotSentError as error:
            logger.warning("mail of %d notices of store %s failed (%s)", len(notices), store_code, error)
            await self.database.run(notices_not_mailed, {one.notice.id: self._retry_seconds(one) for one in due})
            return 0
        await self.database.run(notices_mailed, [notice.id for notice in notices])
        return len(notices)


@dataclass(eq=False)
class NoticeWatch:
    """Watchdog that starts one notification workflow per store with due notices; its id prevents a second one."""

    database: Database
    client: Client
    task_queue: str
    _: KW_ONLY
    mail: bool

    async def run(self) -> None:
        hourly: dict[str, Callable[[], Awaitable[object]]] = {
            "deletion of old notices": partial(self.database.run, forget_notices),
            "search for expiring client certificates": partial(self.database.run, note_expiring_certificates),
        }
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_periodically("start of due notices", self.look, every_seconds=WATCH_SECONDS))
            for name, work in hourly.items():
                tasks.create_task(
                    run_periodically(name, work, every_seconds=HOURLY_SECONDS, retry_seconds=WATCH_SECONDS)
                )

    async def look(self) -> None:
        for store_code in sorted(await self.database.run(stores_with_due_notices, mail=self.mail)):
            with suppress(WorkflowAlreadyStartedError):
                await self.client.start_workflow(
                    "notify-operator",
                    NoticeTask(store_code),
                    id=notice_workflow_id(store_code),
                    task_queue=self.task_queue,
                    static_summary=f"notices of {store_code}",
                    rpc_timeout=START_TIMEOUT,
                )
