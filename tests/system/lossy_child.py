"""`twistd` whose datagrams get lost on the way in, for each socket by itself: `python -m tests.system.lossy_child SHARE ARGUMENT...`.

A rule of netfilter loses a datagram to a group once for all the members of one host. Here each socket has a classic BPF filter that
drops by the kernel's random number (socket(7), SO_ATTACH_FILTER; networking/filter.rst of the kernel: the `rand` extension), so that
the members of one process lose independently. SIGUSR1: from now on; SIGUSR2: no more. The program itself knows nothing of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import struct
import sys
from collections.abc import Callable
from weakref import WeakSet

from twisted.scripts.twistd import run

from m2mapp.net import sockets
from m2mapp.net.counts import Counts
from m2mapp.net.group_sockets import GroupSockets, Key, Membership
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.reading import Reader

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_LOAD, _JUMP_IF_GREATER_OR_EQUAL, _RETURN = 0x20, 0x35, 0x06
_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM of <linux/filter.h>."""
_ALL = 0xFFFFFFFF


def dropping(share: float) -> bytes:
    """The instructions of a filter that drops this share of the datagrams."""
    steps = (
        (_LOAD, 0, 0, _RANDOM),
        (_JUMP_IF_GREATER_OR_EQUAL, 1, 0, int(share * _ALL)),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _ALL),
    )
    return b"".join(struct.pack("@HBBI", *step) for step in steps)


def attach(sock: socket.socket, instructions: bytes) -> None:
    """Filter what the socket gets. Raises `OSError`."""
    kept = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def lose(share: float) -> None:
    """Do so with each UDP socket that `m2mapp` opens, while the signals say so."""
    instructions, opened, whole = dropping(share), WeakSet[socket.socket](), sockets.open_socket
    losing = False

    def open_socket(family: sockets.Family, address: Sockaddr, shared: bool, device: int = 0) -> socket.socket:
        sock = whole(family, address, shared, device)
        opened.add(sock)
        if losing:
            attach(sock, instructions)
        return sock

    def switch(number: int, _frame: object) -> None:
        nonlocal losing
        losing = number == signal.SIGUSR1
        for sock in [sock for sock in opened if sock.fileno() >= 0]:
            if losing:
                attach(sock, instructions)
            else:
                with contextlib.suppress(FileNotFoundError):
                    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    join = GroupSockets.join

    def join_alone(
        self: GroupSockets,
        key: Key,
        receiver: IDatagramReceiver,
        counts: Counts,
        open_: Callable[[IDatagramReceiver, Counts], Reader],
    ) -> Membership:
        """A socket for each member, as devices have that are no neighbours in one process."""
        return join(GroupSockets(self.clock), key, receiver, counts, open_)

    sockets.open_socket = open_socket
    GroupSockets.join = join_alone  # type: ignore[method-assign,assignment]
    signal.signal(signal.SIGUSR1, switch)
    signal.signal(signal.SIGUSR2, switch)


if __name__ == "__main__":
    # It ends with the process that started it (PR_SET_PDEATHSIG): nothing is left of a test run that was killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    lose(float(sys.argv.pop(1)))
    sys.argv[0] = "twistd"
    run()
