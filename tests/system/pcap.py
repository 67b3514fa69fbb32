"""What was on the wire: a capture by tcpdump in its own file format, read back as UDP datagrams.

    with Wire(host) as wire:
        ...
    wire.datagrams

Responsible for UDP over IPv6 without extension headers, on Ethernet. Not responsible for what the datagrams mean.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.system.namespaces import END_S, Host, LabError, wait_until

_MARK = "ff02::6d32:6d"
"""A last packet goes to this address, where nobody listens: when it is in the file, so is all before it."""
_ETHERNET, _IPV6, _UDP = 1, 0x86DD, 17
_FILE, _RECORD = struct.Struct("<IHHiIII"), struct.Struct("<IIII")
_MAGIC = 0xA1B2C3D4


@dataclass(frozen=True)
class Datagram:
    """One UDP datagram over IPv6, with the time in seconds at which it was captured."""

    at_s: float
    source: str
    source_port: int
    destination: str
    port: int
    hop_limit: int
    payload: bytes


class Wire:
    """A capture of an interface's UDP datagrams, both ways, while the `with` lasts. `datagrams` is there afterwards."""

    def __init__(self, host: Host, interface: str = "eth0") -> None:
        self._host, self._interface = host, interface
        self._stack = contextlib.ExitStack()
        self.datagrams: list[Datagram] = []

    def __enter__(self) -> Wire:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="m2m-"))
        self._file = Path(folder, "capture.pcap")
        self._output: IO[str] = self._stack.enter_context(Path(folder, "output").open("w+"))
        # -Z: it stays root, who can write the file; -U: each packet is written as it comes.
        command = ["tcpdump", "-n", "-U", "-Z", "root", "-B", "4096", "-i", self._interface, "-w", str(self._file), "ip6 and udp"]
        self._process = self._host.popen(["sh", "-c", 'exec "$@" 2>"$0"', self._output.name, *command])
        self._stack.callback(self._end)
        try:
            wait_until(self._listening, what="a capture")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        with self._stack:
            if kind is not None:
                return
            with self._host.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (_MARK, 9, 0, socket.if_nametoindex(self._interface)))
            wait_until(self._marked, what="the last packet of a capture")
            self.datagrams = [datagram for datagram in read_pcap(self._file.read_bytes()) if datagram.destination != _MARK]

    def to(self, destination: str) -> list[Datagram]:
        """The datagrams to an address."""
        wanted = str(IPv6Address(destination))
        return [datagram for datagram in self.datagrams if datagram.destination == wanted]

    def from_(self, source: str) -> list[Datagram]:
        """The datagrams from an address."""
        wanted = str(IPv6Address(source))
        return [datagram for datagram in self.datagrams if datagram.source == wanted]

    def _listening(self) -> bool:
        said = Path(self._output.name).read_text()
        if self._process.poll() is not None:
            raise LabError(f"tcpdump did not start: {said}")
        return "listening on" in said

    def _marked(self) -> bool:
        return any(datagram.destination == _MARK for datagram in read_pcap(self._file.read_bytes()))

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def read_pcap(data: bytes) -> list[Datagram]:
    """The datagrams in a capture file of this machine's byte order; a record that is not whole yet ends it. Raises `ValueError`."""
    if len(data) < _FILE.size:
        return []
    magic, _, _, _, _, _, link = _FILE.unpack_from(data)
    if (magic, link) != (_MAGIC, _ETHERNET):
        raise ValueError(f"not a capture of Ethernet in little-endian order: {magic:#x}, link type {link}")
    found: list[Datagram] = []
    place = _FILE.size
    while place + _RECORD.size <= len(data):
        seconds, micros, size, _ = _RECORD.unpack_from(data, place)
        frame = data[place + _RECORD.size : place + _RECORD.size + size]
        if len(frame) < size:
            break
        place += _RECORD.size + size
        datagram = _datagram(frame, seconds + micros / 1e6)
        if datagram is not None:
            found.append(datagram)
    return found


def _datagram(frame: bytes, at_s: float) -> Datagram | None:
    """The UDP datagram in an Ethernet frame, if there is one."""
    if len(frame) < 62 or int.from_bytes(frame[12:14], "big") != _IPV6 or frame[20] != _UDP:
        return None
    ports = struct.unpack_from("!HHH", frame, 54)
    return Datagram(
        at_s=at_s,
        source=str(IPv6Address(frame[22:38])),
        source_port=ports[0],
        destination=str(IPv6Address(frame[38:54])),
        port=ports[1],
        hop_limit=frame[21],
        payload=frame[62 : 54 + ports[2]],
    )
