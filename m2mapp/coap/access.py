"""Who a source of CoAP is, by its address and certificate, and what it may do: `[coap.access]` (spec section 10).

Responsible for the principal of a source. Not responsible for which addresses are on a link or leased: it asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from m2mapp.coap.addresses import is_ipv6, source_text
from m2mapp.coap.dtls.address import session_of
from m2mapp.coap.settings import AccessSettings
from m2mapp.model.principal import Principal, Right
from m2mapp.net.interfaces import Sockaddr

LINK: Final = "link"
LEASES: Final = "leases"
SERVERS: Final = "servers"
"""The servers that a device was told to register at, once it is registered."""
_REMEMBERED: Final = 4_096

ANY_CERTIFICATE: Final = "cert:*"
_CERTIFICATE: Final = "cert:"

_Key = tuple[str, int, int, tuple[str, ...]]


class _Sources:
    """Who has one right."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self.link = LINK in entries
        self.leases = LEASES in entries
        self.servers = SERVERS in entries
        self.names = frozenset(entry for entry in entries if entry.startswith(_CERTIFICATE))
        words = {LINK, LEASES, SERVERS, *self.names}
        self.prefixes = tuple(ip_network(entry) for entry in entries if entry not in words)

    def has(self, names: tuple[str, ...]) -> bool:
        """Whether a certificate of these names is among them."""
        return bool(names) and (ANY_CERTIFICATE in self.names or any(_CERTIFICATE + name in self.names for name in names))


class Principals:
    """Finds the principal of a source, and remembers those found last.

    `on_link` says whether a source that came in by the interface of that index is a neighbour; `leased` whether this node gave the
    address (text) out, `serves` whether a server of this device has it. `names` has interface names by index, for zones: those of the
    service's `Context`.
    """

    def __init__(
        self,
        access: AccessSettings,
        on_link: Callable[[Sockaddr, int], bool],
        leased: Callable[[str], bool],
        names: Mapping[int, str],
        serves: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._on_link, self._serves = on_link, serves
        self._leased = leased
        self._names = names
        self._sources = {
            Right.READ: _Sources(access.read),
            Right.REGISTER: _Sources(access.register),
            Right.ADVERTISE: _Sources(access.advertise),
            Right.WRITE: _Sources(access.write),
        }
        self._found: OrderedDict[_Key, Principal] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._found)

    def principal(self, source: Sockaddr, interface: int) -> Principal:
        """Who a source is. The name is `coap:` and the address, or `cert:` and the first name of the client's verified certificate.

        `source` is the address, with its zone. Whom a certificate names has the rights of its address too.
        """
        session = session_of(source)
        names = session.names if session is not None else ()
        key = (source[0], source[3] if is_ipv6(source) else 0, interface, names)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.popitem(last=False)
            found = self._found[key] = self._find(source, interface, names)
        return found

    def near(self, source: Sockaddr, interface: int) -> bool:
        """Whether its address is its own.

        It is on the link that it came in by, given by this node, that of a server which answered this node, or shown by a cookie (RFC
        6347, section 4.2.1).
        """
        return session_of(source) is not None or self._on_link(source, interface) or self._leased(source[0]) or self._serves(source[0])

    def forget(self) -> None:
        """Look everybody up again: addresses, links or leases have changed."""
        self._found.clear()

    def _find(self, source: Sockaddr, interface: int, names: tuple[str, ...]) -> Principal:
        link, leased, serves = self._on_link(source, interface), self._leased(source[0]), self._serves(source[0])
        address = ip_address(source[0])
        rights = frozenset(
            right
            for right, sources in self._sources.items()
            if (sources.link and link)
            or (sources.leases and leased)
            or (sources.servers and serves)
            or sources.has(names)
            or any(address in prefix for prefix in sources.prefixes)
        )
        if link or Right.READ in rights:
            rights |= {Right.DISCOVER}
        text = source_text(source, self._names)
        return Principal(f"{_CERTIFICATE}{names[0]}" if names else f"coap:{text}", rights, source=text)


class OneServer:
    """The principals of a client's own endpoint, where one server has rights.

    `principal_of` says who it is, by an address (text) and whether a DTLS session is there.
    """

    def __init__(self, principal_of: Callable[[str, bool], Principal]) -> None:
        self._principal_of = principal_of

    def principal(self, source: Sockaddr, interface: int) -> Principal:
        """Who a source is."""
        return self._principal_of(source[0], session_of(source) is not None)

    def near(self, source: Sockaddr, interface: int) -> bool:
        """Whether its address is its own: the server's is, which this client has asked itself; whoever has no right gets little."""
        return bool(self.principal(source, interface).rights)
