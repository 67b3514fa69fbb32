"""Where a URI's host is (spec section 2, "Whose URI"): this node, a registered device, a peer, or what the system's resolver says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NoReturn

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from m2mapp.formats.uris import DEFAULT_PORTS, Uri, parse_uri
from m2mapp.model.errors import Fault, NotSent
from m2mapp.tree.registrations import Registrations


@dataclass(frozen=True, slots=True)
class _Bound:
    """One address and port that is listened on; `version` is that of an unspecified address, which stands for all of the host, else 0."""

    host: str
    port: int
    version: int


class OwnUris:
    """Which URIs are this node's: by its names, and by the addresses and ports that it listens on.

    `own_address` says whether an address is this host's; `::` and `0.0.0.0` stand for every address of the host.
    """

    def __init__(self, names: Iterable[str], own_address: Callable[[str], bool]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._own_address = own_address
        self._bound: dict[str, list[_Bound]] = {}

    def listens(self, scheme: str, host: str, port: int) -> None:
        """The node serves this scheme at this address and port. A host that is no address is one of its names already."""
        try:
            address = ip_address(host)
        except ValueError:
            return
        version = address.version if address.is_unspecified else 0
        self._bound.setdefault(scheme, []).append(_Bound(str(address), port, version))

    def __call__(self, uri: Uri) -> bool:
        """Whether the URI is this node's. By name the port is no matter: it is the node's to know where it listens."""
        if uri.host in self._names:
            return True
        address = uri.address
        if address is None:
            return False
        for bound in self._bound.get(uri.scheme, ()):
            if bound.port == uri.port and (bound.host == uri.host or (bound.version == address.version and self._own_address(uri.host))):
                return True
        return False


class Names:
    """Finds the addresses of hosts. `resolve` asks the system: a Deferred of a list of addresses, failing where there is none."""

    def __init__(self, registrations: Registrations, peers: dict[str, str], resolve: Callable[[str], Deferred[list[str]]]) -> None:
        self._registrations, self._resolve = registrations, resolve
        self._peers = {name: parse_uri(uri) for name, uri in peers.items()}

    def find(self, uri: Uri) -> Deferred[tuple[str, int]]:
        """An address and the port for the URI. Fails with `NotSent`."""
        if uri.address is not None:
            return succeed((uri.host, uri.port))
        device = self._registrations.at_host(uri.host, uri.port)
        if device is not None and device.addresses:
            return succeed((device.addresses[0], _port(uri, device.scheme, device.port)))
        peer = self._peers.get(uri.host)
        host, port = (uri.host, uri.port) if peer is None else (peer.host, _port(uri, peer.scheme, peer.port))
        if peer is not None and peer.address is not None:
            return succeed((host, port))
        found = self._resolve(host)
        return found.addCallbacks(lambda addresses: _first(addresses, uri, port), lambda failure: _unknown(uri, failure))


def _port(uri: Uri, scheme: str, port: int) -> int:
    """The port that a URI without one means at a host that serves its scheme there."""
    return port if uri.scheme == scheme and uri.port == DEFAULT_PORTS[scheme] else uri.port


def _first(addresses: list[str], uri: Uri, port: int) -> tuple[str, int]:
    if not addresses:
        raise NotSent(f"nobody knows the host {uri.host}")
    return addresses[0], port


def _unknown(uri: Uri, failure: Failure) -> NoReturn:
    if isinstance(failure.value, Fault | CancelledError):
        raise failure.value
    raise NotSent(f"nobody knows the host {uri.host}: {failure.getErrorMessage()}") from failure.value
