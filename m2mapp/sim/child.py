"""Starts one process of the demonstration and becomes it: `python -m m2mapp.sim.child [--listen FD] PROGRAM ARGUMENT...`.

It ends with who started it, whatever ends that, and hands on a listening socket as systemd does (sd_listen_fds(3)), so that a process
in another network namespace serves a port of this one. Runs inside that namespace, as the last step before the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping, Sequence
from typing import NoReturn

FIRST_FD = 3
"""The first file descriptor that is handed on (SD_LISTEN_FDS_START)."""
_PR_SET_PDEATHSIG = 1


def split(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """The file descriptor to hand on, or None, and the program with its arguments. Raises `SystemExit` where there is none."""
    listen: int | None = None
    rest = list(arguments)
    if rest[:1] == ["--listen"] and len(rest) > 1 and rest[1].isdecimal():
        listen, rest = int(rest[1]), rest[2:]
    if not rest or rest[0].startswith("-"):
        raise SystemExit("usage: python -m m2mapp.sim.child [--listen FD] PROGRAM ARGUMENT...")
    return listen, rest


def hand_on(fd: int, environment: MutableMapping[str, str]) -> None:
    """Make the descriptor the first one of those handed on, and say so in the environment of this process."""
    os.dup2(fd, FIRST_FD)
    os.set_inheritable(FIRST_FD, True)
    # Twisted takes descriptors only where each has a name, too.
    environment.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")


def main() -> NoReturn:
    """Become the program."""
    listen, command = split(sys.argv[1:])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if listen is not None:
        hand_on(listen, os.environ)
    os.execvp(command[0], command)  # noqa: S606 - that is what it is for; who starts it names the program


if __name__ == "__main__":
    main()
