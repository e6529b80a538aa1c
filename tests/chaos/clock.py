"""A worker's clock set wrong while it runs, by libfaketime where that is installed (Debian: apt install libfaketime).

Only the time of day jumps, as when somebody sets it: time-outs and timers go by a clock that nobody can set.
"""

from pathlib import Path

LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clock:
    """The clocks of a run's workers. Every second one can be set: its process reads its file once a second.

    Under libfaketime a look at a clock costs a hundred times as much; with all workers, two cores were busy with that.
    """

    def __init__(self, folder: Path, *, jumps: bool) -> None:
        self._folder = folder
        self._jumps = jumps
        self._workers = 0
        self.settable = ""
        """The last worker whose clock can be set. Of two workers that are replaced in turn, it runs."""

    def environment(self, name: str) -> dict[str, str]:
        """Variables of the next worker; none in a run without jumps."""
        self._workers += 1
        if not self._jumps or self._workers % 2 == 0:
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
