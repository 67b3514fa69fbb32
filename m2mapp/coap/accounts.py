"""How much each source may ask: requests and bytes a second, of a host and of a network (issue 3; RFC 8516).

Responsible for keeping these accounts, and for whether a request fits them. Not responsible for what becomes of one that does not:
`exchange`.

One number for each rate: the time until which the source has used up what it may (the "theoretical arrival time" of a leaky bucket).
It may be ahead of now by the burst. An account lives as long as a peer of its host is known, so that accounts are bounded as peers are.
What comes from this machine itself has no account.
"""

from __future__ import annotations

from ipaddress import ip_address
from math import ceil
from typing import Final
from weakref import WeakValueDictionary

from m2mapp.coap.owners import Host, Network, host_of, network_of, of_one_network
from m2mapp.coap.parameters import Limits
from m2mapp.net.interfaces import Sockaddr

NETWORK_HOSTS: Final = 16
"""A network may ask as much as so many hosts."""
_TELL_AGAIN_S: Final = 1.0


class Account:
    """What one host or network has used. `under_way` counts its requests that a handler has not answered yet."""

    __slots__ = ("__weakref__", "bytes_until", "network", "requests_until", "told_until", "under_way")

    def __init__(self, network: Account | None) -> None:
        self.network = network
        self.requests_until = 0.0
        self.bytes_until = 0.0
        self.told_until = 0.0
        self.under_way = 0


class Accounts:
    """The accounts of all sources of one port."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._request_s = 1 / limits.source_requests_per_s
        self._byte_s = 1 / limits.source_bytes_per_s
        self._burst_s = limits.source_burst_s
        self._hosts: WeakValueDictionary[Host, Account] = WeakValueDictionary()
        self._networks: WeakValueDictionary[Network, Account] = WeakValueDictionary()
        self.strangers = Account(None)

    def __len__(self) -> int:
        """How many hosts and networks have an account."""
        return len(self._hosts) + len(self._networks)

    def of(self, address: Sockaddr) -> Account | None:
        """The account of a source; None for this machine's own. Whoever asks keeps it: else it is forgotten."""
        host = host_of(address)
        account = self._hosts.get(host)
        if account is not None:
            return account
        if ip_address(host[0]).is_loopback:
            return None
        network = network_of(address)
        above = None
        if network is not None:
            above = self._networks.get(network)
            if above is None:
                above = self._networks[network] = Account(None)
        account = self._hosts[host] = Account(above)
        return account

    def admits(self, account: Account, now_s: float, size: int) -> bool:
        """Whether a message of that many bytes fits the source's rates; if so it is charged."""
        latest = now_s + self._burst_s
        network = account.network
        if account.requests_until > latest or account.bytes_until > latest:
            return False
        if network is not None:
            if network.requests_until > latest or network.bytes_until > latest:
                return False
            network.requests_until = max(network.requests_until, now_s) + self._request_s / NETWORK_HOSTS
            network.bytes_until = max(network.bytes_until, now_s) + self._byte_s / NETWORK_HOSTS * size
        until = account.requests_until
        account.requests_until = (until if until > now_s else now_s) + self._request_s
        until = account.bytes_until
        account.bytes_until = (until if until > now_s else now_s) + self._byte_s * size
        return True

    def charge(self, account: Account, size: int) -> None:
        """So many bytes go to a source that has just asked for them."""
        account.bytes_until += self._byte_s * size

    def retry_after_s(self, account: Account, now_s: float) -> int | None:
        """In how many seconds a source whose request was not admitted may ask again; None where it was told a moment ago.

        RFC 8516 has it told. An answer to each would be what a flood from forged sources wants, so there is one a second.
        """
        if account.told_until > now_s:
            return None
        account.told_until = now_s + _TELL_AGAIN_S
        until = max(account.requests_until, account.bytes_until)
        if account.network is not None:
            until = max(until, account.network.requests_until, account.network.bytes_until)
        return max(1, ceil(until - now_s - self._burst_s))

    def is_full(self, account: Account) -> bool:
        """Whether a host, or its network, has as many requests under way as it may."""
        network = account.network
        return account.under_way >= self._limits.requests_per_host or (
            network is not None and network.under_way >= of_one_network(self._limits.requests)
        )


def count(account: Account | None, change: int) -> None:
    """One request more (1) or less (-1) is under way."""
    if account is not None:
        account.under_way += change
        if account.network is not None:
            account.network.under_way += change
