"""The numbers of DHCPv6, named as RFC 9915 names them. Responsible for nothing else."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class MessageType(IntEnum):
    """Message types (RFC 9915, section 7.3)."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORW = 12
    RELAY_REPL = 13


class Status(IntEnum):
    """Status codes (RFC 9915, section 21.13)."""

    SUCCESS = 0
    UNSPEC_FAIL = 1
    NO_ADDRS_AVAIL = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIX_AVAIL = 6


CLIENT_ID: Final = 1
SERVER_ID: Final = 2
IA_NA: Final = 3
IA_TA: Final = 4
IA_ADDRESS: Final = 5
OPTION_REQUEST: Final = 6
PREFERENCE: Final = 7
ELAPSED_TIME: Final = 8
RELAY_MESSAGE: Final = 9
AUTHENTICATION: Final = 11
UNICAST: Final = 12
STATUS_CODE: Final = 13
RAPID_COMMIT: Final = 14
USER_CLASS: Final = 15
VENDOR_CLASS: Final = 16
VENDOR_OPTS: Final = 17
INTERFACE_ID: Final = 18
RECONFIGURE_MESSAGE: Final = 19
RECONFIGURE_ACCEPT: Final = 20
DNS_SERVERS: Final = 23
DOMAIN_LIST: Final = 24
IA_PD: Final = 25
IA_PREFIX: Final = 26
INFORMATION_REFRESH_TIME: Final = 32
SOL_MAX_RT: Final = 82
INF_MAX_RT: Final = 83

_OTHERS: Final = (INFORMATION_REFRESH_TIME, SOL_MAX_RT, INF_MAX_RT)
TAKEN: Final = frozenset({*range(CLIENT_ID, RECONFIGURE_ACCEPT + 1), *range(DNS_SERVERS, IA_PREFIX + 1), *_OTHERS})
"""Option codes that have a meaning to DHCPv6 itself, or to this program."""

INFINITY: Final = 0xFFFFFFFF
"""A lifetime without end (RFC 9915, section 7.7)."""
CLIENT_PORT: Final = 546
SERVER_PORT: Final = 547
ALL_DHCP_RELAY_AGENTS_AND_SERVERS: Final = "ff02::1:2"
ALL_DHCP_SERVERS: Final = "ff05::1:3"
HOP_COUNT_LIMIT: Final = 8
"""Relay agents between a client and a server, at most (RFC 9915, section 7.6)."""
