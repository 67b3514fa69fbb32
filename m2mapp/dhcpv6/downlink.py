"""The devices' server: on what terms it gives (spec section 8, "Downlink"). Pure; its service is `drivers.linking` and `service`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from m2mapp.dhcpv6.binding import Binding
from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes, fingerprint
from m2mapp.dhcpv6.client import Lease
from m2mapp.dhcpv6.links import Delegation, Link, Links
from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.dhcpv6.pools import Lifetimes
from m2mapp.dhcpv6.reconfigure import ReconfigureKeys
from m2mapp.dhcpv6.server import Arrival, Terms
from m2mapp.dhcpv6.settings import DownlinkSettings


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the downlink hands on: prefixes (at a monotonic time), the bootstrap service, name servers.

    `listen` takes a function that is called when any of it has changed.
    """

    prefixes: Callable[[float], tuple[Delegation, ...]] = lambda _: ()
    bootstrap: Callable[[], Bootstrap] = Bootstrap
    name_servers: Callable[[], tuple[IPv6Address, ...]] = tuple
    listen: Callable[[Callable[[], None]], None] = lambda _: None


def delegations_of(lease: Lease | None) -> tuple[Delegation, ...]:
    """The prefixes that the uplink has, as those of the downlink."""
    prefixes = [(item, item.value) for item in (lease.items if lease is not None else ()) if isinstance(item.value, IPv6Network)]
    return tuple(Delegation(prefix, _until(item.since, item.preferred_s), item.valid_until()) for item, prefix in prefixes)


def handed_on(settings: DownlinkSettings, learned: Upstream) -> Upstream:
    """What devices are told of: the file's prefix, where it names one, before those that were learned."""
    fixed = settings.prefix
    return learned if fixed is None else replace(learned, prefixes=lambda _: (Delegation(fixed),))


def lifetimes_of(settings: DownlinkSettings) -> Lifetimes:
    """What an address gets at most: preferred for half of the time that it is valid; without end where that is."""
    valid_s = settings.valid_lifetime_s
    return Lifetimes(INFINITY if valid_s == INFINITY else valid_s // 2, valid_s)


def is_stale(binding: Binding, link: Link, bootstrap: Bootstrap) -> bool:
    """Whether its client would now get another address, or hear of another bootstrap service, than it did."""
    lasts = link.lifetimes(binding.value).preferred_s if binding.reserved is None else binding.value == link.fixed(binding.reserved)
    # Where nothing is known, as at a start before the uplink has an answer, asking again would help nobody.
    moved = not lasts and any(pool.given.preferred_s for pool in link.pools)
    elsewhere = bootstrap.uri is not None and binding.bootstrap_uri != bootstrap.uri
    return moved or elsewhere or binding.certificate not in (None, fingerprint(bootstrap.certificate))


def downlink_terms(links: Links, codes: BootstrapCodes, upstream: Upstream, keys: ReconfigureKeys) -> Terms:
    """The terms of all interfaces: a client's addresses are of the link that it was heard on, or that its relay agent names."""

    def addresses(arrival: Arrival, now: float) -> Link:
        behind = arrival.link_address
        return links.link(arrival.interface, now) if behind is None else links.behind(behind, now)

    return Terms(addresses=addresses, codes=codes, bootstrap=upstream.bootstrap, name_servers=upstream.name_servers, keys=keys)


def _until(since: float, lifetime_s: int) -> float:
    return math.inf if lifetime_s == INFINITY else since + lifetime_s
