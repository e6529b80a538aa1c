"""Launcher: changes the user, sets the parent-death signal and executes another program.

Run by path in a fresh interpreter: `python -I -S launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…`. A separate program
because `preexec_fn` is not safe in a process with threads. `-` as UID and GID keeps the current user. The order
matters: a change of user clears the death signal, and a parent that died before the signal was set sends none.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PARENT_IS_GONE = 125
CANNOT_START = 126


def main(parent: str, death_signal: str, uid: str, gid: str, *program: str) -> int:
    """Execute the program. Returns only on failure, with the exit status."""
    if uid != "-":
        try:
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        except OSError as error:
            sys.stderr.write(f"cannot become user {uid}: {error.strerror}\n")
            return CANNOT_START
    os.umask(0o077)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}\n")
        return CANNOT_START
    if os.getppid() != int(parent):
        return PARENT_IS_GONE
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is meant
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error.strerror}\n")
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
