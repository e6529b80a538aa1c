"""`api`, as a process, keeps the bounds on connections and heads that the tests of the protocol try one by one."""

from contextlib import AsyncExitStack, closing
from pathlib import Path

from cryptography.fernet import Fernet

from local.ports import hold_free
from tests.api.test_connections import ALIVE, NOWHERE, TOO_LARGE, head_of, peer
from tests.commands.running import has_raised_descriptors, start
from tests.deadlines import eventually

MOST = 10


async def test_it_raises_its_descriptors_and_refuses_large_heads_and_too_many_connections(tmp_path: Path) -> None:
    with closing(hold_free()) as held:
        port: int = held.getsockname()[1]
    environment = {
        "DATABASE_URL": NOWHERE,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "JWT_SECRETS": "j" * 40,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "API_PORT": str(port),
        "CONNECTION_LIMIT": str(MOST),
    }
    root = f"http://127.0.0.1:{port}"
    process = await start("api", directory=tmp_path, environment=environment)

    async def status_of(head: bytes) -> int | None:
        """None if it does not listen yet, or a reset overtook its answer."""
        try:
            async with peer(root) as client:
                await client.send(head)
                return (await client.answer())[0]
        except (ConnectionError, EOFError):
            return None

    async def answers() -> bool:
        return await status_of(ALIVE + b"\r\n") == 200

    async def all_used() -> bool:
        """False while the API has not noticed the end of an earlier connection."""
        async with AsyncExitStack() as stack:
            for _ in range(MOST):
                client = await stack.enter_async_context(peer(root))
                await client.send(ALIVE + b"\r\n")
                try:
                    if (await client.answer())[0] != 200:
                        return False
                except (ConnectionError, EOFError):
                    return False
            return await status_of(ALIVE + b"\r\n") == 503

    try:
        await eventually(answers, 60, "the API answers")
        assert has_raised_descriptors(process.pid)
        for name, (_, size, status) in TOO_LARGE.items():

            async def refused(head: bytes = head_of(**size), status: int = status) -> bool:
                answered = await status_of(head)
                assert answered in (None, status)
                return answered == status

            await eventually(refused, 60, f"{name} above its bound is refused")
        await eventually(all_used, 60, f"{MOST} connections are served, and one more is refused")
    finally:
        process.terminate()
        await process.communicate()
