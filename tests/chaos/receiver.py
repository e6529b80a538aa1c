"""The receiver of a run, in a process of its own: misbehaves as the seed says and writes every request down.

    python -m tests.chaos.receiver SEED SECONDS FOLDER HOST

It writes `receiver.json` (its two ports on that address, and the certificate authority of the one with TLS) into the
folder when it listens, and a line of `arrivals.jsonl` when a request has come and another when it has ended, each with
one write of its own: nothing is in a buffer when it is killed. `POST /begin` says that the load begins; until then
nothing fails.
"""

import asyncio
import json
import os
import socket
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from tests.chaos.faults import HEALTHY, Fault, fault, handshake_fails
from tests.chaos.roles import BY_PATH, event_id_of
from tests.receiver import (
    Authority,
    Exchange,
    Receiver,
    close_before_answer,
    hang,
    raw,
    reset_before_answer,
    reset_mid_response,
    response,
    wrong_length,
)

TCP_ESTABLISHED = 1
REPLIES = {
    "reset": reset_before_answer(),
    "reset mid-response": reset_mid_response(),
    "close": close_before_answer(),
    "wrong length": wrong_length(),
    "garbage": raw(b"\x00garbage\x00\r\n\r\n", close=True),
    "hang": hang(),
}


class Log:
    """The file that the ledger is read from."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines = 0

    def begin(self, **facts: Any) -> int:
        """Write that a request has come; its number."""
        self._lines += 1
        self._write({"n": self._lines, **facts})
        return self._lines

    def end(self, number: int, **facts: Any) -> None:
        """Write what came of it."""
        self._write({"n": number, **facts})

    def _write(self, facts: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(facts).encode() + b"\n")


class Misbehaviour:
    """Answers every request as its fault says."""

    def __init__(self, seed: int, seconds: float, log: Log) -> None:
        self._seed = seed
        self._seconds = seconds
        self._log = log
        self._began_at: float | None = None
        self._asked: dict[tuple[str, str], int] = {}

    async def reply(self, exchange: Exchange) -> None:
        """One exchange."""
        request = exchange.request
        if request.target == "/begin":
            self._began_at = time.monotonic()
            await exchange.write(response(200))
            return
        event_id = _event_id(request.body)
        chosen = self._fault(request.target, event_id)
        number = self._log.begin(
            path=request.target,
            event_id=event_id,
            message_id=request.header("webhook-id"),
            arrived_after=request.arrived_after,
            arrived_at=request.arrived_at,
            kind=chosen.kind,
            status=chosen.status,
            retry_after=chosen.retry_after,
        )
        answered_at: float | None = None
        try:
            answered_at = await self._answer(exchange, chosen)
        finally:
            ended_at = time.monotonic() if answered_at is None else answered_at
            self._log.end(number, ended_at=ended_at, told=answered_at is not None)

    def _fault(self, path: str, event_id: str) -> Fault:
        key = (path, event_id)
        self._asked[key] = self._asked.get(key, 0) + 1
        if self._began_at is None:
            return Fault(HEALTHY)
        role = BY_PATH[path]
        down = role.is_down(time.monotonic() - self._began_at, self._seconds)
        return fault(self._seed, role, event_id, self._asked[key], down=down)

    async def _answer(self, exchange: Exchange, chosen: Fault) -> float | None:
        """Just before the whole answer went to somebody who was there; None if it did not."""
        if chosen.status is None:
            await REPLIES[chosen.kind](exchange)
            return None
        await asyncio.sleep(chosen.seconds)
        headers = [("Retry-After", str(chosen.retry_after))] if chosen.retry_after is not None else []
        if BY_PATH[exchange.request.target].tls:  # a handshake for every request
            headers.append(("Connection", "close"))
            exchange.keep_alive = False
        there, now = _is_there(exchange), time.monotonic()
        await exchange.write(response(chosen.status, headers=tuple(headers)))
        return now if there and exchange.writer.transport.get_write_buffer_size() == 0 else None


def _is_there(exchange: Exchange) -> bool:
    """Whether the other end has not closed its connection: the kernel does that for a process that is killed."""
    information = exchange.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return bool(information[0] == TCP_ESTABLISHED)


def _event_id(body: bytes) -> str:
    return event_id_of(json.loads(body)["data"])


def _failing_now_and_then(context: ssl.SSLContext, seed: int) -> ssl.SSLContext:
    handshakes = 0

    def greeted(_connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        nonlocal handshakes
        handshakes += 1
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if handshake_fails(seed, handshakes) else None

    context.sni_callback = greeted
    return context


def go_first() -> None:
    """Get the processor before other processes, where we may: what is written down is when a request came, not when a
    busy machine let us see it."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


async def serve(seed: int, seconds: float, folder: Path, host: str) -> None:
    """Receive until ended."""
    go_first()
    behaviour = Misbehaviour(seed, seconds, Log(folder / "arrivals.jsonl"))
    authority = Authority()
    (folder / "ca.pem").write_bytes(Path(authority.ca_bundle).read_bytes())
    tls = _failing_now_and_then(authority.server_context("localhost", host), seed)
    async with Receiver(host=host) as plain, Receiver(host=host, tls=tls) as secure:
        plain.otherwise = secure.otherwise = behaviour.reply
        facts = {"plain": plain.port, "tls": secure.port, "ca_bundle": str(folder / "ca.pem")}
        incoming = folder / "receiver.json.incoming"
        incoming.write_text(json.dumps(facts))
        incoming.rename(folder / "receiver.json")
        await asyncio.Event().wait()  # until it is ended


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
