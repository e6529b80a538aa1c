"""A worker's clock set wrong while it runs, by libfaketime where that is installed (Debian: apt install libfaketime).

Only the time of day jumps, as when somebody sets it: time-outs and timers go by a clock that nobody can set.
"""

from pathlib import Path

LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clock:
    """The clock of one of a run's workers, and then of whoever runs in its place; its process reads its file once a
    second.

    A worker under libfaketime takes so much more CPU that two of them keep two cores busy.
    """

    def __init__(self, folder: Path, *, jumps: bool) -> None:
        self._folder = folder
        self._jumps = jumps
        self.settable = ""
        """The worker whose clock can be set."""

    def environment(self, name: str, *, in_place_of: str = "") -> dict[str, str]:
        """Variables of a worker that is added, or that replaces one; none unless its clock can be set."""
        if not self._jumps or self.settable != in_place_of:
            return {}
        self.settable = name
        self._file(name).write_text("+0")
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, name: str, seconds: float) -> None:
        """From within a second on, the time of day of that process is off by so much."""
        self._file(name).write_text(f"{seconds:+.0f}")

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.clock"
