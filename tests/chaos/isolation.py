"""Namespaces of the harness's own, of network, mounts and processes: what it does there is gone when it ends."""

import os
import shutil
import sys
from pathlib import Path

from tests.chaos.network import PROGRAMS

SKIPPED = 3
"""Exit status where a part cannot be had: no pass."""

ISOLATED = "--isolated"
"""Option of the harness that runs within its namespaces."""


def missing() -> str | None:
    """Return why partitions and full disks cannot be had here, or None."""
    if os.geteuid() != 0:
        return "network namespaces and file systems of its own need root"
    programs = [name for name in (*PROGRAMS, "mount") if shutil.which(name) is None]
    if programs:
        return f"these programs are not installed: {', '.join(programs)}"
    if not Path("/dev/net/tun").exists():
        return "the kernel has no TUN devices (/dev/net/tun), by which packets are delayed"
    return None


def unshared(module: str, arguments: list[str]) -> tuple[str, ...]:
    """Return the command line that runs a module in namespaces of its own. What it starts is killed when it ends."""
    unshare = shutil.which("unshare") or "unshare"
    namespaces = ("--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    return (unshare, *namespaces, sys.executable, "-m", module, *arguments)


def isolate(arguments: list[str]) -> None:
    """Run the harness anew, with these arguments, in namespaces of its own; does not return."""
    command = unshared("tests.chaos", [*arguments, ISOLATED])
    os.execv(command[0], command)
