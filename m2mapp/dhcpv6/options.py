"""The options of DHCPv6 as values (RFC 9915, section 21). Wire form: `packet`.

An option that has no class here is `Opaque`, and goes out as it came in. Lifetimes and times are seconds as they stand on the wire
(`INFINITY` included) unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, TypeVar

from m2mapp.dhcpv6.numbers import MessageType, Status

if TYPE_CHECKING:
    from m2mapp.dhcpv6.message import Message, RelayMessage


class Option:
    """What all options are to the type checker; each has its wire form in `packet`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Opaque(Option):
    """An option by number and bytes: one that is not known, or is known only to a layer above."""

    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ClientId(Option):
    """Client Identifier (21.2)."""

    duid: bytes


@dataclass(frozen=True, slots=True)
class ServerId(Option):
    """Server Identifier (21.3)."""

    duid: bytes


@dataclass(frozen=True, slots=True)
class StatusCode(Option):
    """Status Code (21.13). A status that is not known is an `int`."""

    status: Status | int
    message: str = ""


@dataclass(frozen=True, slots=True)
class IaAddress(Option):
    """IA Address (21.6), in an IA_NA."""

    address: IPv6Address
    preferred_s: int
    valid_s: int
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class IaPrefix(Option):
    """IA Prefix (21.22), in an IA_PD. Bits behind the prefix's length are dropped when it is read."""

    prefix: IPv6Network
    preferred_s: int
    valid_s: int
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class IaNa(Option):
    """Identity Association for Non-temporary Addresses (21.4)."""

    iaid: int
    t1_s: int = 0
    t2_s: int = 0
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class IaPd(Option):
    """Identity Association for Prefix Delegation (21.21)."""

    iaid: int
    t1_s: int = 0
    t2_s: int = 0
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class OptionRequest(Option):
    """Option Request (21.7): the codes that the client wants."""

    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preference(Option):
    """Preference (21.8), 0 to 255."""

    value: int


@dataclass(frozen=True, slots=True)
class ElapsedTime(Option):
    """Elapsed Time (21.9) in hundredths of a second, 0xffff for more."""

    hundredths: int


@dataclass(frozen=True, slots=True)
class RelayedMessage(Option):
    """Relay Message (21.10): the message that a relay agent carries."""

    message: Message | RelayMessage


@dataclass(frozen=True, slots=True)
class Authentication(Option):
    """Authentication (21.11)."""

    protocol: int
    algorithm: int
    rdm: int
    replay_detection: int
    information: bytes


@dataclass(frozen=True, slots=True)
class RapidCommit(Option):
    """Rapid Commit (21.14)."""


@dataclass(frozen=True, slots=True)
class VendorOpts(Option):
    """Vendor-specific Information (21.17): sub-options of an enterprise number."""

    enterprise: int
    options: tuple[Opaque, ...]


@dataclass(frozen=True, slots=True)
class InterfaceId(Option):
    """Interface-Id (21.18): a relay agent's own bytes, returned to it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReconfigureMessage(Option):
    """Reconfigure Message (21.19): what the client shall send; Renew, Rebind or Information-request."""

    type: MessageType


@dataclass(frozen=True, slots=True)
class ReconfigureAccept(Option):
    """Reconfigure Accept (21.20)."""


@dataclass(frozen=True, slots=True)
class DnsServers(Option):
    """DNS Recursive Name Server (RFC 3646, section 3)."""

    addresses: tuple[IPv6Address, ...]


@dataclass(frozen=True, slots=True)
class InformationRefreshTime(Option):
    """Information Refresh Time (21.23)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class SolMaxRt(Option):
    """SOL_MAX_RT (21.24)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class InfMaxRt(Option):
    """INF_MAX_RT (21.25)."""

    seconds: int


_Kind = TypeVar("_Kind", bound=Option)


def first(options: tuple[Option, ...], kind: type[_Kind]) -> _Kind | None:
    """The first option of a kind, or None."""
    for option in options:
        if type(option) is kind:
            return option
    return None


def every(options: tuple[Option, ...], kind: type[_Kind]) -> tuple[_Kind, ...]:
    """All options of a kind, in their order."""
    return tuple(option for option in options if type(option) is kind)


def opaque(options: tuple[Option, ...], code: int) -> bytes | None:
    """The bytes of the first option of that code which has no class here, or None."""
    for option in options:
        if type(option) is Opaque and option.code == code:
            return option.data
    return None


def status_of(options: tuple[Option, ...]) -> StatusCode:
    """The status that options tell; without one it is success (RFC 9915, section 21.13)."""
    return first(options, StatusCode) or StatusCode(Status.SUCCESS)
