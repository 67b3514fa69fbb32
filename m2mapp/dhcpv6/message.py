"""DHCPv6 messages as values (RFC 9915, sections 8 and 9). Wire form: `packet`; their options: `options`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from m2mapp.dhcpv6.numbers import MessageType
from m2mapp.dhcpv6.options import Option


class MalformedMessage(ValueError):  # noqa: N818 - a fact, not a mistake of the program
    """These bytes are no DHCPv6 message; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message between client and server (section 8). `transaction_id` has 24 bits."""

    type: MessageType
    transaction_id: int
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class RelayMessage:
    """A message between relay agent and server (section 9): Relay-forward or Relay-reply."""

    type: MessageType
    hop_count: int
    link_address: IPv6Address
    peer_address: IPv6Address
    options: tuple[Option, ...] = ()
