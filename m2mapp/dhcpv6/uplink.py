"""What the uplink has learned, as resources: `/prefixes/<n>`, each with the service that came with it. Pure.

Responsible for the documents and for what of them is still good after a restart. How it is asked for is in `client`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from m2mapp.dhcpv6.binding import PREFIXES, until
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

UPLINK_PREFIX: Final = "uplink-prefix"
_HIDDEN: Final = ("preferredLifetime", "validLifetime", "t1", "t2", "given", "der")


def lease_changes(lease: Lease | None, before: Sequence[Resource], now: float, now_ms: int) -> tuple[Write | Remove, ...]:
    """What makes the tree say what the uplink has; `before` is what it says now. Empty where that is the same."""
    items = lease.items if lease is not None else ()
    writes = [_write(lease, item, str(number), now, now_ms) for number, item in enumerate(items, 1) if lease is not None]
    kept = {one.path for one in writes}
    known = {one.path: one.attributes for one in before}
    changes: list[Write | Remove] = [one for one in writes if known.get(one.path) != one.attributes]
    return (*changes, *(Remove(one.path) for one in before if one.path not in kept))


def kept_lease(resources: Sequence[Resource], now: float, now_ms: int) -> Lease | None:
    """The lease that the tree says the uplink, or the device, had, with the lifetimes that are left of it; None where none is.

    Where the wall clock is behind the time at which it was given, as it is on a box that has not learned the time yet, nothing is known
    of how long the box was off: the lifetimes are then whole.
    """
    items: list[Item] = []
    gone_s = 0
    for resource in resources:
        given = resource.attributes
        gone_s = max(0, now_ms - _number(given, "given")) // 1000
        valid_s, preferred_s = (_left(_number(given, name), gone_s) for name in ("validLifetime", "preferredLifetime"))
        value = IPv6Address(str(given["address"])) if "address" in given else IPv6Network(str(given["prefix"]))
        if valid_s:
            items.append(Item(value, preferred_s, valid_s, now))
    if not items:
        return None
    first = resources[0].attributes
    der = first.get("der")
    told = Bootstrap(str(first["bootstrapURI"]) if first["bootstrapURI"] else None, der if isinstance(der, bytes) else None)
    t1_s, t2_s = (max(0.0, float(str(first[name])) - gone_s) for name in ("t1", "t2"))
    return Lease(bytes.fromhex(str(first["from"])), tuple(items), t1_s, t2_s, now, told, _addresses(first.get("nameServers")))


def _write(lease: Lease, item: Item, name: str, now: float, now_ms: int) -> Write:
    return Write((*PREFIXES, name), UPLINK_PREFIX, learned(lease, item, now, now_ms))


def learned(lease: Lease, item: Item, now: float, now_ms: int) -> Document:
    """The document of a prefix, or of an address, and what was learned beside."""
    given_ms = now_ms - round((now - item.since) * 1000)
    told = lease.bootstrap
    return {
        "address" if isinstance(item.value, IPv6Address) else "prefix": str(item.value),
        "from": lease.server.hex(),
        "state": "preferred" if item.preferred_s else "deprecated",
        "givenAt": rfc3339(given_ms),
        "preferredUntil": until(given_ms, item.preferred_s),
        "validUntil": until(given_ms, item.valid_s),
        "bootstrapURI": told.uri,
        "nameServers": [str(address) for address in lease.name_servers],
        "certificate": f"sha256:{hashlib.sha256(told.certificate).hexdigest()}" if told.certificate else None,
        "preferredLifetime": item.preferred_s,
        "validLifetime": item.valid_s,
        "given": given_ms,
        "t1": str(lease.t1_s),
        "t2": str(lease.t2_s),
        "der": told.certificate,
    }


def _addresses(given: object) -> tuple[IPv6Address, ...]:
    return tuple(IPv6Address(text) for text in given) if isinstance(given, list | tuple) else ()


def _left(lifetime_s: int, gone_s: int) -> int:
    return INFINITY if lifetime_s == INFINITY else max(0, lifetime_s - gone_s)


def _number(given: Document, name: str) -> int:
    value = given[name]
    return value if isinstance(value, int) else 0


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", f"the uplink's prefix {name}", ("GET",))


def shown(resource: Resource, _tree: Tree) -> Document:
    """What of a learned document people see: the times, and of a certificate its fingerprint."""
    return {name: value for name, value in resource.attributes.items() if name not in _HIDDEN}


UPLINK_TYPE: Final = ResourceType(UPLINK_PREFIX, (*PREFIXES, "*"), _refuse, shown, methods=frozenset({Method.GET}))
"""What the prefixes of the uplink are. The delegating server's stand at the same place with a type and names of their own."""
