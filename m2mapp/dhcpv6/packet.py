"""DHCPv6 on the wire (RFC 9915, sections 8, 9 and 21): `parse`, `build`, and `MalformedMessage` for all that is none.

The formats are declared with construct. What reads and writes datagrams are `struct.Struct`s made once from these declarations, since
construct itself takes 200 us for the four messages of one exchange (a test holds the two against each other). Every level checks its
lengths to the last byte, which construct's GreedyRange does not. Options nest only where RFC 9915 has them nest: addresses and
prefixes in their IA, relay messages up to HOP_COUNT_LIMIT; anywhere else they are `Opaque`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, IPv6Network
from struct import Struct as Layout
from typing import Any, Final

import construct as c

from m2mapp.dhcpv6 import duid, numbers
from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import MalformedMessage, Message, RelayMessage
from m2mapp.dhcpv6.numbers import MessageType, Status
from m2mapp.dhcpv6.options import Option

MAX_OPTIONS: Final = 256
"""Options of one message, at all levels together: the largest honest ones have some dozens."""
_ADDRESS_BYTES: Final = 16
_PREFIX_BITS: Final = 128
_LARGEST_OPTION: Final = 0xFFFF

HEADER: Final = c.Struct("type" / c.Int8ub, "transaction_id" / c.Int24ub)
RELAY_HEADER: Final = c.Struct("type" / c.Int8ub, "hop_count" / c.Int8ub, "link_address" / c.Bytes(16), "peer_address" / c.Bytes(16))
OPTION: Final = c.Struct("code" / c.Int16ub, "length" / c.Int16ub)
IA: Final = c.Struct("iaid" / c.Int32ub, "t1_s" / c.Int32ub, "t2_s" / c.Int32ub)
IA_ADDRESS: Final = c.Struct("address" / c.Bytes(16), "preferred_s" / c.Int32ub, "valid_s" / c.Int32ub)
IA_PREFIX: Final = c.Struct("preferred_s" / c.Int32ub, "valid_s" / c.Int32ub, "length" / c.Int8ub, "prefix" / c.Bytes(16))
AUTHENTICATION: Final = c.Struct("protocol" / c.Int8ub, "algorithm" / c.Int8ub, "rdm" / c.Int8ub, "replay_detection" / c.Int64ub)
NUMBER_8: Final = c.Struct("value" / c.Int8ub)
NUMBER_16: Final = c.Struct("value" / c.Int16ub)
NUMBER_32: Final = c.Struct("value" / c.Int32ub)

_FIELD_FORMATS: Final = {"B": "B", "H": "H", "L": "L", "Q": "Q"}


def layout(declaration: c.Construct) -> Layout:
    """The `struct.Struct` of a declaration that has only fields of fixed size; `Int24ub` is the last three bytes of four."""
    parts = ["!"]
    for field in declaration.subcons:
        kind = field.subcon
        if isinstance(kind, c.FormatField):
            parts.append(_FIELD_FORMATS[kind.fmtstr[1:]])
        else:
            parts.append(f"{kind.sizeof()}s")
    return Layout("".join(parts))


_HEADER: Final = layout(HEADER)
_RELAY_HEADER: Final = layout(RELAY_HEADER)
_OPTION: Final = layout(OPTION)
_IA: Final = layout(IA)
_IA_ADDRESS: Final = layout(IA_ADDRESS)
_IA_PREFIX: Final = layout(IA_PREFIX)
_AUTHENTICATION: Final = layout(AUTHENTICATION)
_NUMBER_8: Final = layout(NUMBER_8)
_NUMBER_16: Final = layout(NUMBER_16)
_NUMBER_32: Final = layout(NUMBER_32)
_RELAYS: Final = frozenset({MessageType.RELAY_FORW, MessageType.RELAY_REPL})


class _Budget:
    """How many options a message may still have, and how many relay agents."""

    __slots__ = ("options", "relays")

    def __init__(self) -> None:
        self.options = MAX_OPTIONS
        self.relays = numbers.HOP_COUNT_LIMIT


_Read = Callable[[bytes, _Budget], Option]


def parse(data: bytes) -> Message | RelayMessage:
    """The message in a datagram. Raises `MalformedMessage` and nothing else, whatever the bytes."""
    return _parse(data, _Budget())


def parse_options(data: bytes) -> tuple[Option, ...]:
    """The options of a message without its header, as other protocols carry them (RFC 7788). Raises `MalformedMessage` and nothing else."""
    return _options(data, 0, _IN_MESSAGE, _Budget())


def build(message: Message | RelayMessage) -> bytes:
    """The datagram of a message. Raises `ValueError` where a value does not fit its field: a mistake of the caller."""
    try:
        if isinstance(message, Message):
            head = _HEADER.pack(message.type, message.transaction_id.to_bytes(3, "big"))
        else:
            head = _RELAY_HEADER.pack(message.type, message.hop_count, message.link_address.packed, message.peer_address.packed)
        return head + _build_options(message.options)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{message.type.name}: {error}") from error


def _parse(data: bytes, budget: _Budget) -> Message | RelayMessage:
    if not data:
        raise MalformedMessage("an empty datagram")
    try:
        kind = MessageType(data[0])
    except ValueError:
        raise MalformedMessage(f"message type {data[0]} is not known") from None
    if kind in _RELAYS:
        if len(data) < _RELAY_HEADER.size:
            raise MalformedMessage(f"{kind.name}: {len(data)} bytes are shorter than its header of {_RELAY_HEADER.size}")
        _, hops, link, peer = _RELAY_HEADER.unpack_from(data)
        relayed = _options(data, _RELAY_HEADER.size, _IN_RELAY, budget)
        return RelayMessage(kind, hops, IPv6Address(link), IPv6Address(peer), relayed)
    if len(data) < _HEADER.size:
        raise MalformedMessage(f"{kind.name}: {len(data)} bytes are shorter than its header of {_HEADER.size}")
    return Message(kind, int.from_bytes(data[1:4], "big"), _options(data, _HEADER.size, _IN_MESSAGE, budget))


def _options(data: bytes, at: int, readers: Mapping[int, _Read], budget: _Budget) -> tuple[Option, ...]:
    """The options from there to the end of the bytes, which must be an end of one."""
    end, found = len(data), []
    head, head_bytes = _OPTION.unpack_from, _OPTION.size
    while at < end:
        if end - at < head_bytes:
            raise MalformedMessage(f"{end - at} bytes behind the last option")
        code, length = head(data, at)
        at += head_bytes
        if length > end - at:
            raise MalformedMessage(f"option {code} says {length} bytes, {end - at} are left")
        budget.options -= 1
        if budget.options < 0:
            raise MalformedMessage(f"more than {MAX_OPTIONS} options")
        body = data[at : at + length]
        read = readers.get(code)
        found.append(o.Opaque(code, body) if read is None else read(body, budget))
        at += length
    return tuple(found)


# -- reading ----------------------------------------------------------------------------------------------------------------------


def _fixed(format_: Layout, body: bytes, name: str) -> tuple[Any, ...]:
    """The fields of a body that has exactly these."""
    if len(body) != format_.size:
        raise MalformedMessage(f"{name}: {len(body)} bytes, not {format_.size}")
    return format_.unpack(body)


def _leading(format_: Layout, body: bytes, name: str) -> tuple[Any, ...]:
    """The fields that a body begins with."""
    if len(body) < format_.size:
        raise MalformedMessage(f"{name}: {len(body)} bytes, at least {format_.size} are needed")
    return format_.unpack_from(body)


def _checked_duid(body: bytes, name: str) -> bytes:
    if not duid.is_duid(body):
        raise MalformedMessage(f"{name}: a DUID of {len(body)} bytes, not {duid.SHORTEST} to {duid.LONGEST}")
    return body


def _read_ia_na(body: bytes, budget: _Budget) -> Option:
    iaid, t1_s, t2_s = _leading(_IA, body, "IA_NA")
    return o.IaNa(iaid, t1_s, t2_s, _options(body, _IA.size, _IN_IA_NA, budget))


def _read_ia_pd(body: bytes, budget: _Budget) -> Option:
    iaid, t1_s, t2_s = _leading(_IA, body, "IA_PD")
    return o.IaPd(iaid, t1_s, t2_s, _options(body, _IA.size, _IN_IA_PD, budget))


def _read_ia_address(body: bytes, budget: _Budget) -> Option:
    address, preferred_s, valid_s = _leading(_IA_ADDRESS, body, "IA Address")
    return o.IaAddress(IPv6Address(address), preferred_s, valid_s, _options(body, _IA_ADDRESS.size, _IN_LEASE, budget))


def _read_ia_prefix(body: bytes, budget: _Budget) -> Option:
    preferred_s, valid_s, length, prefix = _leading(_IA_PREFIX, body, "IA Prefix")
    if length > _PREFIX_BITS:
        raise MalformedMessage(f"IA Prefix: a prefix length of {length}")
    network = IPv6Network((prefix, length), strict=False)
    return o.IaPrefix(network, preferred_s, valid_s, _options(body, _IA_PREFIX.size, _IN_LEASE, budget))


def _read_option_request(body: bytes, _budget: _Budget) -> Option:
    if len(body) % _NUMBER_16.size:
        raise MalformedMessage(f"Option Request: {len(body)} bytes are no whole number of codes")
    return o.OptionRequest(struct.unpack(f"!{len(body) // _NUMBER_16.size}H", body))


def _read_status(body: bytes, _budget: _Budget) -> Option:
    (number,) = _leading(_NUMBER_16, body, "Status Code")
    status = Status(number) if number <= Status.NO_PREFIX_AVAIL else number
    return o.StatusCode(status, body[_NUMBER_16.size :].decode(errors="replace"))


def _read_relayed(body: bytes, budget: _Budget) -> Option:
    budget.relays -= 1
    if budget.relays < 0:
        raise MalformedMessage(f"more than {numbers.HOP_COUNT_LIMIT} relay messages in one another")
    return o.RelayedMessage(_parse(body, budget))


def _read_authentication(body: bytes, _budget: _Budget) -> Option:
    protocol, algorithm, rdm, replay_detection = _leading(_AUTHENTICATION, body, "Authentication")
    return o.Authentication(protocol, algorithm, rdm, replay_detection, body[_AUTHENTICATION.size :])


def _read_vendor_opts(body: bytes, budget: _Budget) -> Option:
    (enterprise,) = _leading(_NUMBER_32, body, "Vendor-specific Information")
    inner = _options(body, _NUMBER_32.size, {}, budget)
    return o.VendorOpts(enterprise, o.every(inner, o.Opaque))


def _read_reconfigure(body: bytes, _budget: _Budget) -> Option:
    (number,) = _fixed(_NUMBER_8, body, "Reconfigure Message")
    if number not in (MessageType.RENEW, MessageType.REBIND, MessageType.INFORMATION_REQUEST):
        raise MalformedMessage(f"Reconfigure Message: message type {number} cannot be asked for")
    return o.ReconfigureMessage(MessageType(number))


def _read_dns_servers(body: bytes, _budget: _Budget) -> Option:
    if not body or len(body) % _ADDRESS_BYTES:
        raise MalformedMessage(f"DNS Recursive Name Server: {len(body)} bytes are no whole number of addresses")
    places = range(0, len(body), _ADDRESS_BYTES)
    return o.DnsServers(tuple(IPv6Address(body[at : at + _ADDRESS_BYTES]) for at in places))


def _flag(kind: type[Option], name: str) -> _Read:
    def read(body: bytes, _budget: _Budget) -> Option:
        if body:
            raise MalformedMessage(f"{name}: {len(body)} bytes, not 0")
        return kind()

    return read


def _number(kind: Callable[[int], Option], format_: Layout, name: str) -> _Read:
    return lambda body, _budget: kind(*_fixed(format_, body, name))


_STATUS: Final[Mapping[int, _Read]] = {numbers.STATUS_CODE: _read_status}
_IN_LEASE: Final = _STATUS
_IN_IA_NA: Final[Mapping[int, _Read]] = {**_STATUS, numbers.IA_ADDRESS: _read_ia_address}
_IN_IA_PD: Final[Mapping[int, _Read]] = {**_STATUS, numbers.IA_PREFIX: _read_ia_prefix}
_IN_RELAY: Final[Mapping[int, _Read]] = {
    numbers.RELAY_MESSAGE: _read_relayed,
    numbers.INTERFACE_ID: lambda body, _budget: o.InterfaceId(body),
}
_IN_MESSAGE: Final[Mapping[int, _Read]] = {
    **_STATUS,
    numbers.CLIENT_ID: lambda body, _budget: o.ClientId(_checked_duid(body, "Client Identifier")),
    numbers.SERVER_ID: lambda body, _budget: o.ServerId(_checked_duid(body, "Server Identifier")),
    numbers.IA_NA: _read_ia_na,
    numbers.IA_PD: _read_ia_pd,
    numbers.OPTION_REQUEST: _read_option_request,
    numbers.PREFERENCE: _number(o.Preference, _NUMBER_8, "Preference"),
    numbers.ELAPSED_TIME: _number(o.ElapsedTime, _NUMBER_16, "Elapsed Time"),
    numbers.AUTHENTICATION: _read_authentication,
    numbers.RAPID_COMMIT: _flag(o.RapidCommit, "Rapid Commit"),
    numbers.VENDOR_OPTS: _read_vendor_opts,
    numbers.RECONFIGURE_MESSAGE: _read_reconfigure,
    numbers.RECONFIGURE_ACCEPT: _flag(o.ReconfigureAccept, "Reconfigure Accept"),
    numbers.DNS_SERVERS: _read_dns_servers,
    numbers.INFORMATION_REFRESH_TIME: _number(o.InformationRefreshTime, _NUMBER_32, "Information Refresh Time"),
    numbers.SOL_MAX_RT: _number(o.SolMaxRt, _NUMBER_32, "SOL_MAX_RT"),
    numbers.INF_MAX_RT: _number(o.InfMaxRt, _NUMBER_32, "INF_MAX_RT"),
}


# -- writing ----------------------------------------------------------------------------------------------------------------------


def _build_options(options: tuple[Option, ...]) -> bytes:
    parts: list[bytes] = []
    for option in options:
        if type(option) is o.Opaque:
            code, body = option.code, option.data
        else:
            code, write = _WRITERS[type(option)]
            body = write(option)
        parts.append(_OPTION.pack(code, len(body)))
        parts.append(body)
    return b"".join(parts)


def _write_prefix(option: o.IaPrefix) -> bytes:
    network = option.prefix
    head = _IA_PREFIX.pack(option.preferred_s, option.valid_s, network.prefixlen, network.network_address.packed)
    return head + _build_options(option.options)


def _write_ia(option: o.IaNa | o.IaPd) -> bytes:
    return _IA.pack(option.iaid, option.t1_s, option.t2_s) + _build_options(option.options)


def _write_authentication(option: o.Authentication) -> bytes:
    return _AUTHENTICATION.pack(option.protocol, option.algorithm, option.rdm, option.replay_detection) + option.information


_WRITERS: Final[Mapping[type[Option], tuple[int, Callable[[Any], bytes]]]] = {
    o.ClientId: (numbers.CLIENT_ID, lambda option: option.duid),
    o.ServerId: (numbers.SERVER_ID, lambda option: option.duid),
    o.StatusCode: (numbers.STATUS_CODE, lambda option: _NUMBER_16.pack(option.status) + option.message.encode()),
    o.IaNa: (numbers.IA_NA, _write_ia),
    o.IaPd: (numbers.IA_PD, _write_ia),
    o.IaAddress: (
        numbers.IA_ADDRESS,
        lambda option: _IA_ADDRESS.pack(option.address.packed, option.preferred_s, option.valid_s) + _build_options(option.options),
    ),
    o.IaPrefix: (numbers.IA_PREFIX, _write_prefix),
    o.OptionRequest: (numbers.OPTION_REQUEST, lambda option: b"".join(map(_NUMBER_16.pack, option.codes))),
    o.Preference: (numbers.PREFERENCE, lambda option: _NUMBER_8.pack(option.value)),
    o.ElapsedTime: (numbers.ELAPSED_TIME, lambda option: _NUMBER_16.pack(option.hundredths)),
    o.RelayedMessage: (numbers.RELAY_MESSAGE, lambda option: build(option.message)),
    o.Authentication: (numbers.AUTHENTICATION, _write_authentication),
    o.RapidCommit: (numbers.RAPID_COMMIT, lambda _: b""),
    o.VendorOpts: (numbers.VENDOR_OPTS, lambda option: _NUMBER_32.pack(option.enterprise) + _build_options(option.options)),
    o.InterfaceId: (numbers.INTERFACE_ID, lambda option: option.data),
    o.ReconfigureMessage: (numbers.RECONFIGURE_MESSAGE, lambda option: _NUMBER_8.pack(option.type)),
    o.ReconfigureAccept: (numbers.RECONFIGURE_ACCEPT, lambda _: b""),
    o.DnsServers: (numbers.DNS_SERVERS, lambda option: b"".join(address.packed for address in option.addresses)),
    o.InformationRefreshTime: (numbers.INFORMATION_REFRESH_TIME, lambda option: _NUMBER_32.pack(option.seconds)),
    o.SolMaxRt: (numbers.SOL_MAX_RT, lambda option: _NUMBER_32.pack(option.seconds)),
    o.InfMaxRt: (numbers.INF_MAX_RT, lambda option: _NUMBER_32.pack(option.seconds)),
}
