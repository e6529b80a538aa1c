"""Notices by mail: one text over SMTP, sent in a thread, since the standard library's client blocks."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal

from domain.delivery.notices import Notice, notice_line

CONNECTION_SECONDS = 15.0
"""For each answer of the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """The mail server, and from whom to whom. `username` None: no log-in. `ca_bundle` is trusted beside the public
    authorities."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str | None
    password: str | None
    sender: str
    recipients: Sequence[str]
    ca_bundle: str | None = None


class MailNotSentError(Exception):
    """The server cannot be reached, or did not take the mail. Says which, never what the server wrote."""


def notice_mail(settings: MailSettings, store_code: str, notices: Sequence[Notice]) -> EmailMessage:
    """All notices of a store in one mail, one line each."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2] or None)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday reply is wanted
    what = notices[0].kind.value if len(notices) == 1 else f"{len(notices)} notices"
    mail["Subject"] = f"[webhooks {store_code}] {what}"
    mail.set_content("\n".join([f"Store {store_code}:", "", *(notice_line(notice) for notice in notices)]) + "\n")
    return mail


async def send_mail(settings: MailSettings, mail: EmailMessage) -> None:
    """Hand it to the server. Raises `MailNotSentError`."""
    try:
        await asyncio.to_thread(_send, settings, mail)
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise MailNotSentError(f"no mail sent over {settings.host}:{settings.port}: {type(error).__name__}") from None


def _send(settings: MailSettings, mail: EmailMessage) -> None:
    context = ssl.create_default_context()
    if settings.ca_bundle is not None:
        context.load_verify_locations(settings.ca_bundle)
    server: smtplib.SMTP
    if settings.security == "tls":
        server = smtplib.SMTP_SSL(settings.host, settings.port, timeout=CONNECTION_SECONDS, context=context)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=CONNECTION_SECONDS)
    with server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.username is not None and settings.password is not None:
            server.login(settings.username, settings.password)
        server.send_message(mail)
