"""A node of a home network as RFC 7787 and RFC 7788 describe it, written from their text: no program of it is packaged for Debian.

It builds the TLVs by itself, so that it holds the parser of `m2mapp.dhcpv6.hncp` to account. Used by the system tests too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


def tlv(kind: int, value: bytes) -> bytes:
    """Type, length and value, padded to four bytes."""
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def md5_64(data: bytes) -> bytes:
    """H(data) of HNCP."""
    return hashlib.md5(data, usedforsecurity=False).digest()[:8]


def option(code: int, value: bytes) -> bytes:
    """A DHCPv6 option."""
    return code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def external(*options: bytes) -> bytes:
    """Node data: HNCP-Version, and an External-Connection with DHCPv6-Data."""
    return tlv(32, bytes(4) + b"peer of the tests") + tlv(33, tlv(37, b"".join(options)))


@dataclass
class HomenetPeer:
    """One node, and all that it knows of the network: sequence number and data of each node."""

    node: bytes
    nodes: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def tells(self, data: bytes, node: bytes | None = None) -> None:
        """A node (this one) has these data from now on."""
        node = node or self.node
        self.nodes[node] = (self.nodes.get(node, (0, b""))[0] + 1, data)

    def announcement(self) -> bytes:
        """What it sends to all now and then: its endpoint and the hash of the network's state."""
        states = b"".join(number.to_bytes(4, "big") + md5_64(data) for _, (number, data) in sorted(self.nodes.items()))
        return tlv(3, self.node + bytes(3) + b"\7") + tlv(4, md5_64(states))

    def state(self, node: bytes, *, whole: bool) -> bytes:
        """Node State, with the data or without."""
        number, data = self.nodes[node]
        return tlv(5, node + number.to_bytes(4, "big") + bytes(4) + md5_64(data) + (data if whole else b""))

    def answer(self, request: bytes) -> bytes:
        """The answer to a request: to one for the network, the hash and every node without data; to one for nodes, these with data."""
        at, parts = 0, [tlv(3, self.node + bytes(3) + b"\7")]
        assert request[:4] == bytes((0, 3, 0, 8)), "a request begins with its endpoint"
        while at < len(request):
            kind, length = (int.from_bytes(request[place : place + 2], "big") for place in (at, at + 2))
            value = request[at + 4 : at + 4 + length]
            if kind == 1:
                parts = [self.announcement(), *(self.state(node, whole=False) for node in sorted(self.nodes))]
            elif kind == 2 and value in self.nodes:
                parts.append(self.state(value, whole=True))
            at += 4 + length + -length % 4
        return b"".join(parts)
