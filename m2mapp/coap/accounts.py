"""How much each source may ask: requests and bytes a second, of a host and of a network (issue 3; RFC 8516).

Responsible for keeping these accounts, and for whether more fits them. Not responsible for what becomes of a request that does not:
`exchange`.

An account is a budget of seconds: a request takes the part of a second that its rate says, and so does each byte. What a host may spend
at once is allotted to it in small portions, so that most requests cost one subtraction. A portion comes out of the host's time and out
of its network's, both of which may be ahead of now by the burst (a leaky bucket). An account lives as long as a peer of its host is
known, so that accounts are bounded as peers are. What comes from this machine itself has none.
"""

from __future__ import annotations

from ipaddress import ip_address
from math import ceil
from typing import Final
from weakref import WeakValueDictionary

from m2mapp.coap.owners import Host, Network, host_of, network_of
from m2mapp.coap.parameters import Limits
from m2mapp.net.interfaces import Sockaddr

NETWORK_HOSTS: Final = 16
"""A network may ask as much as so many hosts."""
PORTION: Final = 8
"""So many requests are allotted at once."""
_TELL_AGAIN_S: Final = 1.0


class Account:
    """What one host or network has used: `left_s` of what was allotted to it, and until when its time is spent.

    `under_way` counts its requests that a handler has not answered yet.
    """

    __slots__ = ("__weakref__", "left_s", "network", "spent_until", "told_until", "under_way")

    def __init__(self, network: Account | None) -> None:
        self.network = network
        self.left_s = 0.0
        self.spent_until = 0.0
        self.told_until = 0.0
        self.under_way = 0


class Accounts:
    """The accounts of all sources of one port. A request of some bytes takes `request_s` and for each byte `byte_s`."""

    def __init__(self, limits: Limits) -> None:
        self.request_s = 1 / limits.source_requests_per_s
        self.byte_s = 1 / limits.source_bytes_per_s
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
        """Whether a message of that many bytes fits; if so it is charged."""
        account.left_s -= self.request_s + self.byte_s * size
        return account.left_s >= 0.0 or self.allot(account, now_s, self.request_s + self.byte_s * size)

    def allot(self, account: Account, now_s: float, cost_s: float) -> bool:
        """Allot more to an account that was overdrawn by that cost. False where it has no more: the cost is taken back then."""
        latest, network = now_s + self._burst_s, account.network
        if account.spent_until >= latest or (network is not None and network.spent_until >= latest):
            account.left_s += cost_s
            return False
        portion_s = PORTION * self.request_s - account.left_s
        account.left_s += portion_s
        account.spent_until = max(account.spent_until, now_s) + portion_s
        if network is not None:
            network.spent_until = max(network.spent_until, now_s) + portion_s / NETWORK_HOSTS
        return True

    def retry_after_s(self, account: Account, now_s: float) -> int | None:
        """In how many seconds a source whose request was not admitted may ask again; None where it was told a moment ago.

        RFC 8516 has it told. An answer to each would be what a flood from forged sources wants, so there is one a second.
        """
        if account.told_until > now_s:
            return None
        account.told_until = now_s + _TELL_AGAIN_S
        until = account.spent_until if account.network is None else max(account.spent_until, account.network.spent_until)
        return max(1, ceil(until - now_s - self._burst_s))


def count(account: Account | None, change: int) -> None:
    """One request more (1) or less (-1) is under way."""
    if account is not None:
        account.under_way += change
        if account.network is not None:
            account.network.under_way += change
