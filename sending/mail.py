"""Mail with notices, sent over SMTP in a thread, because the standard library's client blocks."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from typing import Literal

from domain.delivery.notices import Notice, kind_in_words, notice_line

CONNECTION_SECONDS = 15.0
"""Timeout of the connection and of each answer of the mail server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Mail server, sender, recipients. `username` None: no log-in. `ca_bundle` adds to the public authorities."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str | None
    password: str | None
    sender: str
    recipients: Sequence[str]
    ca_bundle: str | None = None


class MailNotSentError(Exception):
    """The server cannot be reached or refused the mail. The text never quotes the server."""


def notice_mail(settings: MailSettings, store_code: str, notices: Sequence[Notice]) -> EmailMessage:
    """Return one mail with a line for each notice of a store."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2] or None)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents automatic replies
    subject = kind_in_words(notices[0].kind) if len(notices) == 1 else f"{len(notices)} notices"
    mail["Subject"] = f"[webhooks {store_code}] {subject}"
    mail.set_content("\n".join([f"Store {store_code}:", "", *(notice_line(notice) for notice in notices)]) + "\n")
    return mail


async def send_mail(settings: MailSettings, mail: EmailMessage) -> None:
    """Send a mail. Raises `MailNotSentError`."""
    try:
        await asyncio.to_thread(_send, settings, mail)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise MailNotSentError(f"no mail sent over {settings.host}:{settings.port}: {type(error).__name__}") from None


def _send(settings: MailSettings, mail: EmailMessage) -> None:
    context = ssl.create_default_context()
    if settings.ca_bundle is not None:
        context.load_verify_locations(settings.ca_bundle)
    connect = partial(smtplib.SMTP_SSL, context=context) if settings.security == "tls" else smtplib.SMTP
    with connect(settings.host, settings.port, timeout=CONNECTION_SECONDS) as server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.username is not None and settings.password is not None:
            server.login(settings.username, settings.password)
        server.send_message(mail)
