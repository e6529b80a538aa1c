"""Every command that prints data prints it as JSON too, and as tables that cut nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

import cli
from commands.terminal import show_table
from tests.commands.filed import CRM, HEAD, Filed
from tests.commands.running import run

WITHOUT_DATA = {
    "up",
    "down",
    "api",
    "worker",
    "codec-server",
    "new-encryption-key",  # prints the key and nothing else
    "temporal setup",
    "temporal promote",
}


def leaves(command: TyperCommand | TyperGroup, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below, by the words that call it."""
    if isinstance(command, TyperGroup):
        for word, each in command.commands.items():
            yield from leaves(each, f"{name} {word}".strip())
    else:
        yield name, command


def test_every_command_with_data_has_the_option() -> None:
    commands = dict(leaves(typer.main.get_command(cli.command_line())))
    without = {name for name, one in commands.items() if not any("--json" in option.opts for option in one.params)}
    assert without == WITHOUT_DATA


def test_a_table_cuts_nothing_and_aligns_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("Id", "Deliveries"), ("9ef7ebfd-406a-5f81-a250-162e220634b9", 1200), ("\x1b[2J", 7))
    assert capsys.readouterr().out.splitlines() == [
        "Id                                    Deliveries",
        "9ef7ebfd-406a-5f81-a250-162e220634b9       1,200",
        "\\u001b[2J                                      7",
    ]


@pytest.mark.parametrize("command", ["schedules list", "subscriptions export"])
async def test_what_the_api_answers_is_printed_as_json(filed: Filed, command: str) -> None:
    ended = await run(
        *command.split(),
        *("--json", "--store", filed.shop.store),
        directory=filed.directory,
        environment=filed.environment(COLUMNS="20"),
    )
    assert ended.code == 0, ended
    assert json.loads(ended.output)


async def test_a_difference_is_printed_as_json_without_a_table(filed: Filed) -> None:
    filed.write(HEAD, CRM)
    ended = await filed.run("diff", "s.yaml", "--json")
    assert ended.code == 1, ended
    found = json.loads(ended.output)
    assert (found["applied"], [change["action"] for change in found["changes"]]) == (False, ["create"])
