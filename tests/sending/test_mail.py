"""Mails reach a server that wants them encrypted and somebody to log in; what it refuses is said in our words."""

from dataclasses import replace
from typing import Any

import pytest

from sending.mail import MailNotSentError, MailSettings, notice_mail, send_mail
from tests.domain.test_notices import NOTICE
from tests.receiver import Authority
from tests.smtp import MailServer

LOGIN = ("somebody", "a long password")


def settings_of(server: MailServer, **changes: Any) -> MailSettings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "security": "none",
        "username": None,
        "password": None,
        "sender": "webhooks@example.com",
        "recipients": ("one@example.com",),
    }
    return MailSettings(**(values | changes))


async def send(settings: MailSettings) -> None:
    await send_mail(settings, notice_mail(settings, "default", [NOTICE]))


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_is_encrypted_and_logged_in_for(security: str) -> None:
    authority = Authority()
    context = authority.server_context("127.0.0.1")
    async with MailServer(tls=context, implicit=security == "tls", login=LOGIN) as server:
        secure = {"security": security, "ca_bundle": authority.ca_bundle}
        await send(settings_of(server, **secure, username=LOGIN[0], password=LOGIN[1]))
        [mail] = server.mails
        assert mail.encrypted
        assert mail.message["Subject"] == "[webhooks default] gave up a delivery (delivery.exhausted)"
        assert mail.message["Auto-Submitted"] == "auto-generated"


async def test_a_server_nobody_vouches_for_gets_no_mail() -> None:
    async with MailServer(tls=Authority().server_context("127.0.0.1")) as server:
        with pytest.raises(MailNotSentError, match="SSLCertVerificationError"):
            await send(settings_of(server, security="starttls"))
        assert server.mails == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"username": "somebody", "password": "wrong"}, "SMTPAuthenticationError", id="wrong password"),
        pytest.param({}, "SMTPSenderRefused", id="not logged in"),
        pytest.param({"security": "starttls"}, "SMTPNotSupportedError", id="no STARTTLS"),
        pytest.param({"port": 1}, "ConnectionRefusedError", id="nobody listens"),
    ],
)
async def test_a_mail_that_is_not_taken_says_why_without_the_servers_words(changes: dict[str, Any], says: str) -> None:
    async with MailServer(login=LOGIN) as server:
        with pytest.raises(MailNotSentError, match=says) as raised:
            await send(settings_of(server, **changes))
    assert "log in first" not in str(raised.value)


async def test_a_store_code_cannot_add_headers() -> None:
    async with MailServer() as server:
        settings = settings_of(server)
        with pytest.raises(ValueError, match="linefeed"):
            notice_mail(settings, "a\nBcc: three@example.com", [replace(NOTICE)])
