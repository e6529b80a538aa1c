"""A store of a served API and the file of its subscriptions, in a directory where commands run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.installation import RECEIVER, Installation, Shop
from tests.commands.running import Ended, run

HEAD = "version: 1\nsubscriptions:\n"
CRM = f"  - eventName: CustomerRegistered\n    name: CRM\n    url: {RECEIVER}\n"
MAIL = f"  - eventName: CustomerUpdated\n    name: Mail\n    url: {RECEIVER}\n"
TOKEN = "    headers:\n      - headerName: Authorization\n        headerValue: {fromEnv: TOKEN}\n"


@dataclass
class Served:
    """An API on a port of its own."""

    installed: Installation
    root: str


@dataclass
class Filed:
    """A store with a file beside it; commands run in the file's directory."""

    shop: Shop
    root: str
    key: str
    directory: Path

    def write(self, *parts: str) -> None:
        (self.directory / "s.yaml").write_text("".join(parts))

    def environment(self, **more: str) -> dict[str, str]:
        return {"LOYALTY_WEBHOOKS_API": self.root, "LOYALTY_WEBHOOKS_KEY": self.key} | more

    async def run(self, *arguments: str, standard_input: bytes = b"", **environment: str) -> Ended:
        return await run(
            "subscriptions",
            *arguments,
            "--store",
            self.shop.store,
            directory=self.directory,
            environment=self.environment(**environment),
            standard_input=standard_input,
        )

    async def rows(self) -> list[dict[str, Any]]:
        """What is stored, oldest first."""
        items: list[dict[str, Any]] = (await self.shop.list())["items"]
        return items
