"""`loyalty-webhooks explain`: explain why an event did not arrive."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from commands.actions.client import ActionClient
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, find_target
from domain.delivery.explain import ReasonCode
from local.data_directory import DEFAULT_DATA_DIRECTORY


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("explain")(explain)


def explain(
    event_id: Annotated[UUID, typer.Argument(metavar="EVENT", help="Event id.")],
    subscription: Annotated[UUID | None, typer.Option(help="Explain only this subscription.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Explain the state of an event for each subscription of the store, with a remedy.

    Exit code 0: explained. 1: no such subscription. 2: wrong usage, or the API cannot be reached.
    """
    query = {"eventId": str(event_id)} | ({} if subscription is None else {"webhookSubscriptionId": str(subscription)})
    found = ActionClient(find_target(api, key, store, data_dir)).get("explain", **query)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    _say(console, f"{found['eventName'] or 'Event'} {event_id}", found)
    others = 0
    for item in found["items"]:
        if item["code"] == ReasonCode.other_event_name and subscription is None:
            others += 1
            continue
        console.print()
        _say(console, f"{item['url']} ({item['name'] or item['webhookSubscriptionId']})", item)
    if others:
        console.print(f"\n{others:,} more subscriptions are for other events.")


def _say(console: Console, title: str, found: dict[str, Any]) -> None:
    console.print(Text.assemble((title, "bold"), "  ", (found["code"], "cyan")), soft_wrap=True)
    console.print(Text(f"  {found['text']}"), soft_wrap=True)
    console.print(Text(f"  {found['remedy']}", "dim"), soft_wrap=True)
    if found.get("messageId"):
        console.print(Text(f"  delivery {found['messageId']}", "dim"), soft_wrap=True)
