"""One value of each option with its bytes, written out by hand from RFC 9915, section 21: code, length, body."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import MessageType, Status

DUID = bytes.fromhex("0003000102005e102030")
ADDRESS = IPv6Address("2001:db8::d1")
LINK_LOCAL = IPv6Address("fe80::1")

TOP_LEVEL: dict[str, tuple[o.Option, str]] = {
    "client id": (o.ClientId(DUID), "0001000a 0003000102005e102030"),
    "server id": (o.ServerId(DUID), "0002000a 0003000102005e102030"),
    "empty ia_na": (o.IaNa(1, 1800, 2880), "0003000c 00000001 00000708 00000b40"),
    "ia_na": (
        o.IaNa(0xFFFFFFFF, 0, 0, (o.IaAddress(ADDRESS, 3600, 7200, (o.StatusCode(Status.SUCCESS, "ok"),)),)),
        "00030030 ffffffff 00000000 00000000 00050020 20010db80000000000000000000000d1 00000e10 00001c20 000d0004 0000 6f6b",
    ),
    "ia_na with status": (o.IaNa(1, 0, 0, (o.StatusCode(Status.NO_ADDRS_AVAIL),)), "00030012 00000001 00000000 00000000 000d0002 0002"),
    "ia_pd": (
        o.IaPd(2, 1, 2, (o.IaPrefix(IPv6Network("2001:db8:5::/48"), 3600, 0xFFFFFFFF),)),
        "00190029 00000002 00000001 00000002 001a0019 00000e10 ffffffff 30 20010db8000500000000000000000000",
    ),
    "option request": (o.OptionRequest((23, 65001)), "00060004 0017 fde9"),
    "empty option request": (o.OptionRequest(()), "00060000"),
    "preference": (o.Preference(255), "00070001 ff"),
    "elapsed time": (o.ElapsedTime(258), "00080002 0102"),
    "authentication": (o.Authentication(3, 1, 0, 5, b"\x01key"), "000b000f 03 01 00 0000000000000005 016b6579"),
    "status": (o.StatusCode(Status.NO_BINDING, "which?"), "000d0008 0003 77686963683f"),
    "unknown status": (o.StatusCode(99), "000d0002 0063"),
    "rapid commit": (o.RapidCommit(), "000e0000"),
    "vendor options": (o.VendorOpts(4491, (o.Opaque(1, b"a"), o.Opaque(2, b""))), "0011000d 0000118b 00010001 61 00020000"),
    "reconfigure": (o.ReconfigureMessage(MessageType.RENEW), "00130001 05"),
    "reconfigure accept": (o.ReconfigureAccept(), "00140000"),
    "dns servers": (o.DnsServers((ADDRESS,)), "00170010 20010db80000000000000000000000d1"),
    "information refresh time": (o.InformationRefreshTime(600), "00200004 00000258"),
    "sol_max_rt": (o.SolMaxRt(3600), "00520004 00000e10"),
    "inf_max_rt": (o.InfMaxRt(3600), "00530004 00000e10"),
    "unknown": (o.Opaque(65001, b"coap://[::1]"), "fde9000c 636f61703a2f2f5b3a3a315d"),
}
"""Option and bytes (hexadecimal, spaces between the fields), by name."""

SOLICIT = Message(MessageType.SOLICIT, 0x0A0B0C, (o.ClientId(DUID), o.IaNa(1)))
RELAYED = RelayMessage(
    MessageType.RELAY_FORW, 0, ADDRESS, LINK_LOCAL, (o.InterfaceId(b"eth1"), o.RelayedMessage(SOLICIT), o.Opaque(79, b"\0\1mac"))
)


def as_bytes(text: str) -> bytes:
    """Bytes from hexadecimal with spaces."""
    return bytes.fromhex(text)
