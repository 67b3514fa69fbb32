"""The bootstrap URI that routers announce in an option of their advertisements (`ra_option` of `[dhcpv6.uplink]`). Pure.

Responsible for how long what a router said counts. The option has no lifetime of its own: what is in it counts for as long as the
router's own lifetime, and for three of the longest intervals between advertisements (RFC 4861, section 6.2.1) where that is shorter, as
it is of a router that is no way to elsewhere. A router that says that it goes, without the option, has said nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from m2mapp.dhcpv6.advert import option_announced
from m2mapp.dhcpv6.bootstrap_options import uri_of
from m2mapp.dhcpv6.message import MalformedMessage

LEAST_S: Final = 1800.0
MOST_ROUTERS: Final = 8
"""So many routers of one link are listened to; one more than these, while they last, is not."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a router said, and until when that counts, in monotonic seconds."""

    uri: str
    until_s: float


class Routers:
    """The routers of one link by their link-local address, the one that was heard first before the others."""

    def __init__(self, option: int) -> None:
        self._option = option
        self._heard: dict[str, Announced] = {}

    def heard(self, data: bytes, source: str, now: float) -> None:
        """An advertisement came. Raises `MalformedMessage` where it is to be ignored, what its option says included."""
        lifetime_s, body = option_announced(data, source, self._option)
        if body is None:
            if not lifetime_s:
                self._heard.pop(source, None)
            return
        uri = uri_of(body)
        if uri is None:
            raise MalformedMessage(f"option {self._option} of {source} holds no URI")
        self.over(now)
        if source in self._heard or len(self._heard) < MOST_ROUTERS:
            self._heard[source] = Announced(uri, now + max(lifetime_s, LEAST_S))

    def over(self, now: float) -> None:
        """Forget what counts no more."""
        self._heard = {source: one for source, one in self._heard.items() if one.until_s > now}

    def first(self) -> tuple[str, str] | None:
        """The URI of the router that was heard first, and the router's address."""
        return next(((one.uri, source) for source, one in self._heard.items()), None)

    def next_end_s(self) -> float | None:
        """When the next one of them is over."""
        return min((one.until_s for one in self._heard.values()), default=None)

    def clear(self) -> None:
        """The link is another one, or gone."""
        self._heard.clear()
