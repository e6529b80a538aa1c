"""Take the pictures of the command line in docs/: `make screenshots`. A real stack, and a receiver that fails."""

import asyncio
import tempfile
from pathlib import Path

import httpx

from docs.pictures import terminal
from local.stack_file import Stack
from tests.commands.running import ENVIRONMENT, PROGRAM, lines_until
from tests.deadlines import eventually
from tests.house import ROOT
from tests.panel.browser.conftest import SETTINGS
from tests.panel.browser.live import LiveShop
from tests.receiver import Receiver
from tests.stack import running_stack
from tests.temporal_screenshots import answer, emit

FOLDER = ROOT / "docs" / "pictures"
EVENT = "CustomerRegistered"
RETRY_SCHEDULE = [900]
TERMINAL = ENVIRONMENT | {"FORCE_COLOR": "1", "COLUMNS": "400"}


async def started(stack: Stack, *words: str) -> asyncio.subprocess.Process:
    """Start a command on the stack, which prints as to a terminal."""
    environment = TERMINAL | {"LOYALTY_WEBHOOKS_API": stack.api, "LOYALTY_WEBHOOKS_KEY": stack.api_key}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(PROGRAM, *words, env=environment, stdout=pipe, stderr=pipe)


async def said(stack: Stack, *words: str) -> str:
    """The command as it is typed, and what it prints."""
    output, _ = await (await started(stack, *words)).communicate()
    return f"$ loyalty-webhooks {' '.join(words)}\n{output.decode()}"


def write(name: str, title: str, output: str) -> None:
    (FOLDER / f"{name}.svg").write_text(terminal(title, output))
    print(f"{name}.svg", flush=True)


async def take_all(stack: Stack) -> None:
    """Write every picture of a terminal to docs/pictures/."""
    headers = {"X-AUTH-TOKEN": stack.api_key, "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=stack.api, headers=headers, timeout=30) as api, Receiver() as receiver:
        receiver.otherwise = answer
        shop = LiveShop(stack.store, api)
        await shop.subscribe(receiver.url("/till"), EVENT, name="Till")
        await shop.subscribe(receiver.url("/warehouse"), EVENT, name="Warehouse", retrySchedule=RETRY_SCHEDULE)
        paused = await shop.subscribe(receiver.url("/app"), EVENT, name="App")
        await api.post(f"/api/{stack.store}/webhook/subscription/{paused}/pause")
        tail = await started(stack, "tail")
        assert tail.stderr is not None
        await tail.stderr.readline()
        event = await emit(shop, EVENT)

        async def attempted() -> bool:
            return sorted(item["attempts"] for item in await shop.deliveries(event)) == [0, 1, 1]

        await eventually(attempted, 60.0, "two first attempts")
        lines = [line for _ in range(3) for line in await lines_until(tail, EVENT)]
        tail.terminate()
        await tail.wait()
        write("tail", "Deliveries as they happen", "$ loyalty-webhooks tail\n" + "\n".join(lines))
        write("explain", "Why an event did not arrive", await said(stack, "explain", event))


def main() -> None:
    """Replace the pictures of terminals."""
    with tempfile.TemporaryDirectory() as directory, running_stack(Path(directory), environment=SETTINGS) as stack:
        asyncio.run(take_all(stack))


if __name__ == "__main__":
    main()
