"""Where a URI's host is (spec section 2, "Whose URI"): this node, a registered device, a peer, or what the system's resolver says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from twisted.internet.defer import Deferred, succeed

from m2mapp.formats.uris import Uri, address_key, parse_uri
from m2mapp.model.errors import PeerFailed
from m2mapp.tree.registrations import Registrations


class OwnUris:
    """Which URIs are this node's: by its names, and by the addresses and ports that it listens on.

    `own_address` says whether an address is this host's; `bound` are the (host, port) pairs of one scheme, where `::` and `0.0.0.0` stand
    for every address of the host.
    """

    def __init__(self, names: Iterable[str], own_address: Callable[[str], bool]) -> None:
        self._names = frozenset(names)
        self._own_address = own_address
        self._bound: dict[str, list[tuple[str, int]]] = {}

    def listens(self, scheme: str, host: str, port: int) -> None:
        """The node serves this scheme at this address and port."""
        self._bound.setdefault(scheme, []).append((host, port))

    def __call__(self, uri: Uri) -> bool:
        """Whether the URI is this node's. By name the port is no matter: it is the node's to know where it listens."""
        if uri.host in self._names:
            return True
        address = uri.address
        if address is None:
            return False
        for host, port in self._bound.get(uri.scheme, ()):
            if port != uri.port:
                continue
            if address_key(host) == uri.host:
                return True
            bound = ip_address(host)
            if bound.is_unspecified and bound.version == address.version and self._own_address(uri.host):
                return True
        return False


class Names:
    """Finds the addresses of hosts. `resolve` asks the system: a Deferred of a list of addresses, failing where there is none."""

    def __init__(self, registrations: Registrations, peers: dict[str, str], resolve: Callable[[str], Deferred[list[str]]]) -> None:
        self._registrations, self._resolve = registrations, resolve
        self._peers = {name: parse_uri(uri) for name, uri in peers.items()}

    def find(self, uri: Uri) -> Deferred[tuple[str, int]]:
        """An address and the port for the URI. Fails with `PeerFailed`."""
        if uri.address is not None:
            return succeed((uri.host, uri.port))
        device = self._registrations.at_host(uri.host)
        if device is not None and device.addresses:
            port = device.port if uri.scheme == device.scheme else uri.port
            return succeed((device.addresses[0], port))
        peer = self._peers.get(uri.host)
        if peer is not None and peer.address is not None:
            return succeed((peer.host, peer.port))
        found = self._resolve(peer.host if peer is not None else uri.host)
        return found.addCallback(lambda addresses: _first(addresses, uri))


def _first(addresses: list[str], uri: Uri) -> tuple[str, int]:
    if not addresses:
        raise PeerFailed(f"nobody knows the host {uri.host}")
    return addresses[0], uri.port
