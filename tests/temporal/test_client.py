"""The connection to a Temporal that speaks TLS, configured by Temporal's own environment, as for Temporal Cloud."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trustme
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.testing import WorkflowEnvironment

from temporal.client import temporal_client

CHUNK_BYTES = 64 * 1024
DEADLINE_SECONDS = 20
TLS_HANDSHAKE = b"\x16"  # the first byte of a connection that speaks TLS


@dataclass
class Front:
    """What speaks TLS in front of Temporal, and the certificates of its clients."""

    address: str
    authority: trustme.CA
    certificates: list[dict[str, object]]


@asynccontextmanager
async def tls_before(temporal: WorkflowEnvironment) -> AsyncIterator[Front]:
    """Passes to Temporal what came over TLS, from clients of its own authority alone."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    host, _, port = temporal.client.service_client.config.target_host.rpartition(":")
    front = Front("", authority, [])

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front.certificates.append(writer.get_extra_info("peercert"))
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(piped(reader, upstream_writer), piped(upstream_reader, writer))

    async with await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=context) as server:
        front.address = f"localhost:{server.sockets[0].getsockname()[1]}"
        yield front


async def piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(CHUNK_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # the other side has gone
    finally:
        writer.close()


async def reach(front: Front, monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    """Connect as a process of ours does. Raises RuntimeError when it cannot."""
    variables = {
        "TEMPORAL_ADDRESS": front.address,
        "TEMPORAL_TLS_SERVER_CA_CERT_DATA": front.authority.cert_pem.bytes().decode(),
        **environment,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = await temporal_client(lazy=False, payload_keys=())
    await client.workflow_service.get_system_info(GetSystemInfoRequest())


async def test_a_certificate_and_its_key_open_the_connection(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_before(temporal) as front:
        mine = front.authority.issue_cert("worker.example.com")
        [chain] = mine.cert_chain_pems
        await reach(
            front,
            monkeypatch,
            TEMPORAL_TLS_CLIENT_CERT_DATA=chain.bytes().decode(),
            TEMPORAL_TLS_CLIENT_KEY_DATA=mine.private_key_pem.bytes().decode(),
        )
        assert "worker.example.com" in str(front.certificates[-1]["subjectAltName"])


async def test_without_the_certificate_that_is_asked_for_there_is_no_connection(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_before(temporal) as front:
        with pytest.raises(RuntimeError):
            await reach(front, monkeypatch)


async def test_a_key_of_the_api_is_sent_over_tls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first: asyncio.Queue[bytes] = asyncio.Queue()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.put_nowait(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(noted, "127.0.0.1", 0) as server:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("TEMPORAL_API_KEY", "a-key")
        connecting = asyncio.create_task(temporal_client(lazy=False, payload_keys=()))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await first.get() == TLS_HANDSHAKE
        with pytest.raises(RuntimeError):
            await connecting
