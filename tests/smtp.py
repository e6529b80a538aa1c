"""A mail server on a real socket: takes what it is told to take, and remembers every mail.

    async with MailServer() as server:
        ...                                   # SMTP_HOST=127.0.0.1, SMTP_PORT=server.port
        [mail] = server.mails

`MailServer(tls=context)` offers STARTTLS, `implicit=True` beside it expects TLS from the first byte; `login` is the
(name, password) it asks for; `refuse_data` makes it refuse mails.
"""

import asyncio
import base64
import ssl
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Mail:
    """One mail as it was handed over."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool


class MailServer:
    """The server. `mails` has every mail in order of arrival."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
        refuse_data: bool = False,
    ) -> None:
        self.mails: list[Mail] = []
        self.refuse_data = refuse_data
        self.port = 0
        self._tls = tls
        self._implicit = implicit
        self._login = login
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        implicit = self._tls if self._implicit else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=implicit)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted, known = self._implicit, self._login is None
        sender, recipients = "", list[str]()

        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 mail.example.com")
        while line := (await reader.readline()).decode().strip():
            verb, argument = line.partition(" ")[0].upper(), line.partition(":")[2].strip("<>")
            if verb == "EHLO":
                offers = ["STARTTLS"] if self._tls and not encrypted else ["AUTH PLAIN"] if self._login else []
                for word in ["mail.example.com", *offers][:-1]:
                    await say(f"250-{word}")
                await say(f"250 {['mail.example.com', *offers][-1]}")
            elif verb == "STARTTLS" and self._tls is not None:
                await say("220 go ahead")
                await writer.start_tls(self._tls)
                encrypted = True
            elif verb == "AUTH":
                name, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")[1:]
                known = (name, password) == self._login
                await say("235 welcome" if known else "535 who are you?")
            elif verb == "MAIL":
                sender = argument.partition(">")[0]
                await say("250 ok" if known else "530 log in first")
            elif verb == "RCPT":
                recipients.append(argument)
                await say("250 ok")
            elif verb == "DATA" and not self.refuse_data:
                await say("354 go on")
                data = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                message = message_from_bytes(data, _class=EmailMessage, policy=policy.default)
                self.mails.append(Mail(sender, recipients, message, encrypted))
                await say("250 taken")
            else:
                await say("221 bye" if verb == "QUIT" else "250 ok" if verb == "RSET" else "554 refused")
        writer.close()
