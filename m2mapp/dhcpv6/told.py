"""What devices are sent of the bootstrap service, as it stands in a message: for `/node`, and so for whoever looks at both ends. Pure."""

from __future__ import annotations

from typing import Final

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes, bootstrap_options
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType
from m2mapp.dhcpv6.options import VendorOpts
from m2mapp.dhcpv6.packet import build
from m2mapp.tree.unit import Document

MOST_BYTES: Final = 64
"""So many bytes of an option are shown at most; how many more there are is said."""
_HEADER_BYTES: Final = 4
"""The type and the transaction identifier of a message (RFC 9915, section 8)."""
_ALWAYS, _ASKED = "always", "to a device that asks for it"


def options_told(bootstrap: Bootstrap, codes: BootstrapCodes) -> list[Document]:
    """The options, each with its code, what it is, when it is sent, its bytes with code and length (hexadecimal) and how many `more`."""
    shown: list[Document] = []
    for option in bootstrap_options(bootstrap, codes, with_certificate=True):
        data = build(Message(MessageType.REPLY, 0, (option,)))[_HEADER_BYTES:]
        code = int.from_bytes(data[:2], "big")
        if isinstance(option, VendorOpts):
            what, when = f"both, inside option 17 of enterprise {option.enterprise}", "the URI always, the certificate " + _ASKED
        else:
            what, when = ("bootstrap URI", _ALWAYS) if code == codes.uri else ("certificate of the bootstrap server", _ASKED)
        more = max(0, len(data) - MOST_BYTES)
        shown.append({"code": code, "what": what, "when": when, "hex": data[:MOST_BYTES].hex(), "more": more})
    return shown
