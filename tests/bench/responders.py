"""A process that answers as many devices: one socket each, and one for the multicast group. `python -m tests.bench.responders GROUP N`.

Each device has an address 127.1.x.y and answers a GET of anything with 21.5 at once: what is measured is who asks.
"""

from __future__ import annotations

import selectors
import socket
import sys

PORT = 5683
_CONFIRMABLE = 0x40


def address(index: int) -> str:
    """The address of a device, by its number from 0."""
    return f"127.1.{index // 250}.{index % 250 + 1}"


def answer(request: bytes, message_id: int) -> bytes:
    """2.05 with 21.5: piggybacked on the acknowledgement, or non-confirmable with the device's own message id."""
    length = request[0] & 0x0F
    head = (
        bytes((0x60 | length, 0x45)) + request[2:4]
        if request[0] & 0x70 == _CONFIRMABLE
        else bytes((0x50 | length, 0x45, *message_id.to_bytes(2, "big")))
    )
    return head + request[4 : 4 + length] + b"\xc0\xff21.5"


def main(group: str, count: int) -> None:
    """Answer until the process is ended."""
    selector = selectors.DefaultSelector()
    devices = []
    for index in range(count):
        device = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        device.bind((address(index), PORT))
        device.setblocking(False)
        selector.register(device, selectors.EVENT_READ)
        devices.append(device)
    shared = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.bind((group, PORT))
    shared.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1"))
    selector.register(shared, selectors.EVENT_READ)
    print("ready", flush=True)
    message_id = 0
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            if not isinstance(sock, socket.socket):
                continue
            request, source = sock.recvfrom(2048)
            if sock is not shared:
                sock.sendto(answer(request, 0), source)
                continue
            message_id = (message_id + 1) & 0xFFFF
            reply = answer(request, message_id)
            for device in devices:
                device.sendto(reply, source)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
