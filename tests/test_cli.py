"""Every command is there, whether the whole command line is loaded or only what a call needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli
from tests.house import ROOT


def commands(names: list[str]) -> list[str]:
    group = typer.main.get_command(cli.command_line(names))
    return list(group.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_is_there_alone(name: str) -> None:
    assert commands([name]) == [name]


def test_the_whole_command_line_has_them_all_in_order() -> None:
    assert commands(list(cli.COMMANDS)) == list(cli.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["up", "--help"], ["up"]),
        (["stores", "list"], ["stores"]),
        (["--help"], list(cli.COMMANDS)),
        (["no-such-command"], list(cli.COMMANDS)),
        ([], list(cli.COMMANDS)),
    ],
)
def test_a_call_loads_what_it_needs(arguments: list[str], names: list[str]) -> None:
    assert list(cli.needed(arguments)) == names


def test_loading_collects_no_garbage_and_leaves_the_modules_to_no_later_collection() -> None:
    script = """
import gc, cli
runs = []
gc.callbacks.append(lambda phase, _: runs.append(phase))
cli._loaded(["version"])
print(len(runs), gc.isenabled(), gc.get_freeze_count() > 10_000)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.split() == ["0", "True", "True"]


@pytest.mark.parametrize("command", ["tail", "recover", "subscription update"])
def test_help_breaks_lines_at_the_width_of_the_terminal_alone(command: str) -> None:
    name, *rest = command.split()
    shown = CliRunner().invoke(cli.command_line([name]), [name, *rest, "--help"], env={"COLUMNS": "500"}).output
    usage, *paragraphs = [line.strip() for line in shown.partition("╭")[0].splitlines() if line.strip()]
    assert (usage.split()[0], len(paragraphs) > 2) == ("Usage:", True)
    assert [line for line in paragraphs if not line.endswith(".")] == []


def test_every_module_with_commands_is_listed() -> None:
    with_commands = {
        ".".join(path.relative_to(ROOT / "commands").with_suffix("").parts)
        for path in (ROOT / "commands").rglob("*.py")
        if path.read_text().startswith('"""`loyalty-webhooks ')
    }
    assert with_commands == set(cli.COMMANDS.values())


def test_the_installed_command_and_the_module_are_the_same(tmp_path: Path) -> None:
    """From anywhere, and not the `cli.py` that lies there."""
    (tmp_path / "cli.py").write_text("raise SystemExit('not this one')")
    for command in ([Path(sys.executable).with_name("loyalty-webhooks")], [sys.executable, "-P", "-m", "cli"]):
        shown = subprocess.run(
            [*command, "listen", "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert shown.returncode == 0, shown.stderr
        assert "--verify-key" in shown.stdout


@pytest.mark.parametrize(("arguments", "code"), [(["listen", "--help"], 0), (["listen", "--no-such-option"], 2)])
def test_a_process_in_which_temporals_client_is_ends_with_its_own_status_and_nothing_after_it(
    arguments: list[str], code: int
) -> None:
    """The interpreter is not taken apart, since the client's threads would abort the process now and then."""
    script = f"""
import atexit, sys
import temporalio.client
import cli
atexit.register(print, "taken apart")
sys.argv = ["loyalty-webhooks", *{arguments!r}]
cli.main()
"""
    ended = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == code, ended.stderr
    assert ("--verify-key" in ended.stdout) == (code == 0)
    assert "taken apart" not in ended.stdout
