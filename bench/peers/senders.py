"""Posting a delivery: over aiohttp in a coroutine, over urllib3 in a thread. Anything but 2xx raises."""

import os
import ssl
import threading
from collections.abc import Mapping

import aiohttp
import urllib3

from bench.peers.work import AUTHORITY_VARIABLE, request_of

CONNECTIONS = 64
"""Kept open to the receiver by one process."""

TIMEOUT_SECONDS = 15.0


class ThreadSender:
    """For peers whose tasks are plain functions; one pool a process, made after it has forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._pid = 0

    def deliver(self, event: Mapping[str, object], subscription_id: str) -> None:
        """One delivery, from body to answer."""
        url, headers, body = request_of(event, subscription_id)
        answer = self._own_pool().request(
            "POST", url, body=body, headers=headers, timeout=TIMEOUT_SECONDS, retries=False
        )
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"{url} answered {answer.status}")

    def _own_pool(self) -> urllib3.PoolManager:
        if self._pid != os.getpid():
            with self._lock:
                authority = os.environ.get(AUTHORITY_VARIABLE)
                self._pool, self._pid = urllib3.PoolManager(maxsize=CONNECTIONS, ca_certs=authority), os.getpid()
        if self._pool is None:
            raise RuntimeError("no connections")
        return self._pool


class LoopSender:
    """For peers whose tasks are coroutines; made at the first delivery, inside the running loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, event: Mapping[str, object], subscription_id: str) -> None:
        """One delivery, from body to answer."""
        url, headers, body = request_of(event, subscription_id)
        if self._session is None:
            tls = ssl.create_default_context(cafile=os.environ.get(AUTHORITY_VARIABLE))
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            )
        async with self._session.post(url, data=body, headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
