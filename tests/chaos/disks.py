"""Small file systems for the data of PostgreSQL and of Temporal, in memory, which can be filled and emptied again."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

DISK_MB = 4096
"""More than a run writes. Memory is taken for what is written only."""

LEFT_BYTES = 64 * 1024
"""Room on a full disk: a disk cannot be made smaller than what is on it, and it is written to meanwhile."""

TRIES = 20


class Disk:
    """A file system of its own, mounted on the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def mount(self) -> None:
        """Make the folder and mount the file system."""
        self.folder.mkdir(mode=0o755)
        await self._mount("-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "chaos")

    async def unmount(self) -> None:
        """Unmount the file system, also while something has a file of it open."""
        await _command("umount", "--lazy", str(self.folder))

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """During the block, nothing more can be written than is on the disk already."""
        for _ in range(TRIES):
            figures = os.statvfs(self.folder)
            used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
            if await self._mount("-o", f"remount,size={used + LEFT_BYTES}", check=False):
                break
        else:
            raise AssertionError(f"{self.folder} could not be filled")
        try:
            yield
        finally:
            await self._mount("-o", f"remount,size={DISK_MB}m")

    async def _mount(self, *options: str, check: bool = True) -> bool:
        return await _command("mount", *options, str(self.folder), check=check)


async def _command(*command: str, check: bool = True) -> bool:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.returncode == 0
