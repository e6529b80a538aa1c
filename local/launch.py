"""Becomes another program, as another user if asked, which the kernel ends when its parent ends.

Run by path in a fresh interpreter: `python -I -S launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…`. A program of its
own rather than a `preexec_fn`, which is not safe in a process with threads. UID and GID are `-` to stay who we are.
The order matters: a change of user clears the death signal, and a parent that died before it was set sends none.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1
MANY_FILES = 65536
PARENT_IS_GONE = 125
CANNOT_START = 126


def main(parent: str, death_signal: str, uid: str, gid: str, *program: str) -> int:
    """Only returns on failure: then the exit status."""
    if uid != "-":
        try:
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        except OSError as error:
            sys.stderr.write(f"cannot become user {uid}: {error.strerror}\n")
            return CANNOT_START
    os.umask(0o077)
    _may_open_many_files()
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


def _may_open_many_files() -> None:
    """The usual soft limit of 1,024 would be met by a burst; the hard one is what the system really allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
