"""Addresses that an operator keeps for a client: PUT /leases/<duid>/<iaid> {"address": ...}. Pure.

Responsible for what such a request must hold, and for what the lease is after it. The address is kept though the client is away; a client
that has another gets this one the next time that it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Final

from m2mapp.dhcpv6.binding import LEASES, Binding, Bindings, Client, State
from m2mapp.dhcpv6.duid import LONGEST, SHORTEST, is_duid
from m2mapp.dhcpv6.links import Links
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.formats.shapes import Field, Shape, Wrong
from m2mapp.model.errors import Conflict, Malformed
from m2mapp.model.identifiers import Path

_LEASE_DEPTH: Final = len(LEASES) + 2


def _address(value: object) -> IPv6Address:
    try:
        return IPv6Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, "an IPv6 address such as 2001:db8:5::d1") from error


_RESERVATION: Final = Shape({"address": Field(_address)})


def client_at(path: Path) -> Client:
    """Whose lease stands at a path. Raises `Malformed` where it names no DUID and IAID as leases do."""
    duid, iaid = path[len(LEASES) :]
    try:
        client = Client(bytes.fromhex(duid), int(iaid), for_prefix=False)
    except ValueError:
        client = None
    if client is None or not is_duid(client.duid) or client.iaid > INFINITY or client.path != path:
        expected = f"/leases/<duid>/<iaid>: {SHORTEST} to {LONGEST} bytes in lower-case hexadecimal, and a number below 2^32"
        raise Malformed("path", f"{duid}/{iaid}", expected)
    return client


def is_lease(path: Path) -> bool:
    """Whether a lease may stand at a path."""
    return len(path) == _LEASE_DEPTH


def reserved(client: Client, given: Mapping[str, object], bindings: Bindings, links: Links, now: tuple[float, int]) -> Binding:
    """The client's binding with the address reserved. `now`: monotonic seconds, wall-clock milliseconds.

    Raises `Malformed` where a device of this node's links cannot have the address, `Conflict` where another client has it.
    """
    address = _RESERVATION.check(given)["address"]
    now_s, now_ms = now
    link = links.link_of(address, now_s) if isinstance(address, IPv6Address) else None
    if not isinstance(address, IPv6Address) or link is None or link.fixed(address) != address:
        pools = [str(pool.prefix) for name in links.names for pool in links.link(name, now_s).pools if pool.given.preferred_s]
        expected = f"an address of {', '.join(pools) or 'a prefix, of which there is none now'}, and not this node's own"
        raise Malformed("address", str(address), expected)
    if not bindings.is_free_for(client, address):
        raise Conflict(f"address: {address} is another client's, or was declined")
    had = bindings.find(client)
    if had is not None and had.state is State.BOUND:
        return replace(had, reserved=address)
    return Binding(client, address, 0, INFINITY, now_ms, State.RESERVED, reserved=address)
