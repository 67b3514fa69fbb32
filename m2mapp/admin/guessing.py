"""Slow answers to guessing: how long who has failed before waits for the next answer, and when it gets none.

Pure: takes the time, in seconds of the node's clock. Failures are counted by source and by account, so that neither many accounts from
one place nor one account from many places can be tried fast; nobody is locked out of an account by somebody else.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from m2mapp.model.errors import TooManyRequests

FIRST_S, LONGEST_S = 0.25, 8.0
FORGOTTEN_S = 900.0
REFUSED_AFTER = 20
_MOST = 1024


class Guessing:
    """The failures of late. A source with 20 of them within 15 minutes is refused for the rest of these; it tries one at a time."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._trying: set[str] = set()

    def begin(self, source: str, account: str, now_s: float) -> float:
        """How long this attempt has to wait, in seconds; `end` is to be called after it. Raises `TooManyRequests`."""
        source = network_of(source)
        if source in self._trying:
            raise TooManyRequests("another sign-in from this address is being looked at", 1)
        by_source, until_s = self._count(f"source {source}", now_s)
        if by_source >= REFUSED_AFTER:
            raise TooManyRequests("too many failed sign-ins from this address", max(1, round(until_s - now_s)))
        self._trying.add(source)
        most = max(by_source, self._count(f"account {account}", now_s)[0])
        return min(LONGEST_S, FIRST_S * 2.0 ** (min(most, REFUSED_AFTER) - 1)) if most else 0.0

    def end(self, source: str, account: str, now_s: float, *, right: bool) -> None:
        """The attempt is over."""
        source = network_of(source)
        self._trying.discard(source)
        for key in (f"source {source}", f"account {account}"):
            if right:
                self._failures.pop(key, None)
                continue
            self._failures[key] = (self._count(key, now_s)[0] + 1, now_s + FORGOTTEN_S)
            self._failures.move_to_end(key)
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def _count(self, key: str, now_s: float) -> tuple[int, float]:
        count, until_s = self._failures.get(key, (0, 0.0))
        return (count, until_s) if now_s < until_s else (0, 0.0)


def network_of(source: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 of an IPv6 address, in which one host has as many as it likes."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else source
