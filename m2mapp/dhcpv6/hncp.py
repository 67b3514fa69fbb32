"""HNCP on the wire, as far as a listener needs it (RFC 7787, section 7; RFC 7788, sections 3 and 10). Pure.

Responsible for the TLVs by which a node of a home network tells its state, for those that ask for it, and for the DHCPv6 options in it.
Not responsible for what is asked when (`homenet`). TLVs that are not known are passed over, as DNCP wants.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes, bootstrap_in
from m2mapp.dhcpv6.message import MalformedMessage
from m2mapp.dhcpv6.packet import parse_options

PORT: Final = 8231
ALL_HOMENET_NODES: Final = "ff02::11"
NODE_BYTES: Final = 4
"""Of a node identifier (RFC 7788, section 3)."""
HASH_BYTES: Final = 8
MAX_TLVS: Final = 1024
"""TLVs of one datagram, at all levels together."""
_REQUEST_NETWORK_STATE, _REQUEST_NODE_STATE, _NODE_ENDPOINT, _NETWORK_STATE, _NODE_STATE = 1, 2, 3, 4, 5
_EXTERNAL_CONNECTION, _DHCPV6_DATA = 33, 37
_TLV: Final = struct.Struct("!HH")
_ENDPOINT: Final = struct.Struct("!4sI")
_STATE: Final = struct.Struct("!4sII8s")
_NUMBER: Final = struct.Struct("!I")
_ALIGNMENT: Final = 4


@dataclass(frozen=True, slots=True)
class NodeState:
    """The state of one node: its sequence number, the hash of its data and, where they were sent, the data (RFC 7787, section 7.2.3)."""

    node: bytes
    sequence: int
    digest: bytes
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Told:
    """What a datagram tells: the hash of the state of all nodes, where it has one, and the state of some."""

    network: bytes | None
    nodes: tuple[NodeState, ...]


def digest_of(data: bytes) -> bytes:
    """H(data): the leading 64 bits of its MD5 (RFC 7788, section 3), which tells change and protects from nothing."""
    return hashlib.md5(data, usedforsecurity=False).digest()[:HASH_BYTES]


def network_digest(nodes: Iterable[NodeState]) -> bytes:
    """The hash of the state of all nodes: over sequence number and hash of each, by node identifier (RFC 7787, section 4.1)."""
    return digest_of(b"".join(_NUMBER.pack(one.sequence) + one.digest for one in sorted(nodes, key=lambda one: one.node)))


def parse_told(data: bytes) -> Told:
    """What a node tells. Raises `MalformedMessage` and nothing else, whatever the bytes; also where data have another hash than is said."""
    network: bytes | None = None
    nodes: list[NodeState] = []
    for kind, value in _tlvs(data, _Budget()):
        if kind == _NETWORK_STATE:
            if len(value) != HASH_BYTES:
                raise MalformedMessage(f"Network State: {len(value)} bytes, not {HASH_BYTES}")
            network = value
        elif kind == _NODE_STATE:
            nodes.append(_node_state(value))
    return Told(network, tuple(nodes))


def bootstrap_of(data: bytes, codes: BootstrapCodes) -> Bootstrap:
    """The bootstrap service in the DHCPv6 options of a node's external connections. Raises `MalformedMessage`."""
    budget = _Budget()
    found = Bootstrap()
    for kind, value in _tlvs(data, budget):
        for inner, options in _tlvs(value, budget) if kind == _EXTERNAL_CONNECTION else ():
            if inner == _DHCPV6_DATA and found.uri is None:
                found = bootstrap_in(parse_options(options), codes)
    return found


def build_request(node: bytes, endpoint: int, wanted: Iterable[bytes] = ()) -> bytes:
    """A request by a node at one of its endpoints: for the state of the nodes `wanted`; without any, for that of the network."""
    parts = [_tlv(_NODE_ENDPOINT, _ENDPOINT.pack(node, endpoint))]
    parts += [_tlv(_REQUEST_NODE_STATE, one) for one in wanted] or [_tlv(_REQUEST_NETWORK_STATE, b"")]
    return b"".join(parts)


class _Budget:
    """How many TLVs a datagram may still have."""

    __slots__ = ("tlvs",)

    def __init__(self) -> None:
        self.tlvs = MAX_TLVS


def _tlvs(data: bytes, budget: _Budget) -> Iterator[tuple[int, bytes]]:
    """Type and value of each TLV; each begins at a multiple of four bytes (RFC 7787, section 7)."""
    at = 0
    while at < len(data):
        if len(data) - at < _TLV.size:
            raise MalformedMessage(f"{len(data) - at} bytes behind the last TLV")
        kind, length = _TLV.unpack_from(data, at)
        at += _TLV.size
        if length > len(data) - at:
            raise MalformedMessage(f"TLV {kind} says {length} bytes, {len(data) - at} are left")
        budget.tlvs -= 1
        if budget.tlvs < 0:
            raise MalformedMessage(f"more than {MAX_TLVS} TLVs")
        yield kind, data[at : at + length]
        at += -(-length // _ALIGNMENT) * _ALIGNMENT


def _node_state(value: bytes) -> NodeState:
    if len(value) < _STATE.size:
        raise MalformedMessage(f"Node State: {len(value)} bytes, at least {_STATE.size} are needed")
    node, sequence, _age_ms, digest = _STATE.unpack_from(value)
    data = value[_STATE.size :]
    if data and digest_of(data) != digest:
        raise MalformedMessage(f"Node State of {node.hex()}: its data have another hash")
    return NodeState(node, sequence, digest, data)


def _tlv(kind: int, value: bytes) -> bytes:
    return _TLV.pack(kind, len(value)) + value.ljust(-(-len(value) // _ALIGNMENT) * _ALIGNMENT, b"\0")
