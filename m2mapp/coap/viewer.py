"""One look at the wire: which messages somebody wants to see, and their lines, no faster and no more than the other end takes.

Responsible for the filters, for the first lines, which say how things stand with the peers that are meant, and for bounds: lines a
second, viewers at a time; what could not be shown is counted and told. Not responsible for how a message is worded (`display`) nor for
who may look and how the lines get there (the HTTP edge).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final

from m2mapp.coap.addresses import is_ipv6
from m2mapp.coap.context import Context
from m2mapp.coap.conversations import Conversations
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.display import describe, endpoint_text
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Message
from m2mapp.coap.peers import Peer
from m2mapp.coap.tap import Seen, Sighting, Way, take_apart
from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import Malformed, Overloaded
from m2mapp.net.interfaces import Sockaddr
from m2mapp.tree.paths import parse_path

VIEWERS: Final = 4
LINES_A_SECOND: Final = 1_000
"""More than anybody reads; at 40 us a line that is 4 % of a core for each viewer, whatever the traffic."""

_TELL_S: Final = 1.0
_KNOWN_HOSTS: Final = 1_024
_DAY_TOLD_S: Final = 43_200.0
_TIME_OF_DAY: Final = slice(len("2026-11-22T"), -len("Z"))
_PEERS_TOLD: Final = 20
_UNDER_WAY_TOLD: Final = 8
_SECRET_PATHS: Final = ((b"0",), (b"bspack",))
"""Where keys pass: the LwM2M Security object, and the bootstrap pack, which has it too."""

_PEER_EXPECTED: Final = "an address or a prefix such as fd00::d1 or fd00::/64"
_GROUP_EXPECTED: Final = "a multicast address such as ff05::fd"
_SWITCH: Final = {"show": True, "hide": False}


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants to see: all that every filter lets through. An answer belongs to the path and the group of its request."""

    network: IPv4Network | IPv6Network | None = None
    zone: str = ""
    group: str | None = None
    path: tuple[bytes, ...] | None = None
    payload: bool = True


def read_ask(query: tuple[tuple[str, str], ...]) -> Ask:
    """The filters of a query: `peer`, `group`, `path`, `payload`, each at most once. Raises `Malformed`, or `TooLarge` for the path."""
    given: dict[str, str] = {}
    for name, value in query:
        if name not in ("peer", "group", "path", "payload"):
            raise Malformed("query", name, "peer, group, path or payload")
        if name in given:
            raise Malformed(name, value, "given once")
        given[name] = value
    network, zone = _peer(given["peer"]) if "peer" in given else (None, "")
    path = tuple(segment.encode() for segment in parse_path(given["path"])) if "path" in given else None
    payload = given.get("payload", "show")
    if payload not in _SWITCH:
        raise Malformed("payload", payload, "show or hide")
    return Ask(network, zone, _group(given["group"]) if "group" in given else None, path, _SWITCH[payload])


def _peer(text: str) -> tuple[IPv4Network | IPv6Network, str]:
    address, percent, zone = text.partition("%")
    try:
        network = ip_network(address, strict=False)
    except ValueError:
        raise Malformed("peer", text, _PEER_EXPECTED) from None
    if network.is_multicast:
        raise Malformed("peer", text, f"{_PEER_EXPECTED}; a multicast address is a group")
    if percent and not zone:
        raise Malformed("peer", text, "the name of an interface after '%'")
    return network, zone


def _group(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise Malformed("group", text, _GROUP_EXPECTED) from None
    if not address.is_multicast:
        raise Malformed("group", text, _GROUP_EXPECTED)
    return str(address)


class WireFeed:
    """Opens viewers of one node. `now_ms` is the wall clock, in milliseconds since 1970 UTC."""

    def __init__(self, endpoint: Endpoint, context: Context, now_ms: Callable[[], int]) -> None:
        self._endpoint, self._context, self._now_ms = endpoint, context, now_ms

    def __call__(self, query: tuple[tuple[str, str], ...], take: Callable[[str], bool]) -> Callable[[], None]:
        """Look at what the query says; each line goes to `take`, which is False where it has no room. Returns what ends it.

        Raises `Malformed` for a filter, `Overloaded` where too many look already.
        """
        ask = read_ask(query)
        tap = self._context.tap
        if len(tap.viewers) >= VIEWERS:
            raise Overloaded(f"at most {VIEWERS} may look at the wire at a time", retry_after_s=10)
        viewer = Viewer(ask, self._context, self._now_ms, take)
        viewer.begin(peer for layer in self._endpoint.layers for peer in layer.peers.all())
        tap.add(viewer)
        return viewer.stop


class Viewer:
    """One look at the wire, until `stop`."""

    def __init__(self, ask: Ask, context: Context, now_ms: Callable[[], int], take: Callable[[str], bool]) -> None:
        self._ask, self._context, self._now_ms, self._take = ask, context, now_ms, take
        network = ask.network
        # Most look at one device: its address as text is enough, since the kernel writes addresses as `ipaddress` does.
        self._only = str(network.network_address) if network is not None and network.num_addresses == 1 else None
        self._hosts: dict[str, bool] = {}
        self._second = context.clock.seconds()
        self._lines = 0
        self._missed = 0
        self._telling: Deadline | None = None

    def stop(self) -> None:
        """See nothing more. Calling it again does nothing."""
        self._context.tap.remove(self)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def begin(self, peers: Iterator[Peer]) -> None:
        """Tell how things stand: what was given up, and what is under way to the peers that are meant."""
        self._take("-- times are UTC; <- came in, -> went out, .. waits, -x was not taken by the system, !! was given up")
        for sighting in self._context.tap.given_up:
            seen = self._context.tap.look_back(sighting)
            if self._wants(seen):
                self._take(self._line(seen))
        meant = list(islice(self._meant(peers), _PEERS_TOLD + 1))
        for peer in meant[:_PEERS_TOLD]:
            self._tell_peer(peer)
        if len(meant) > _PEERS_TOLD:
            self._take("-- and further peers")
        if not meant and self._ask.network is not None:
            self._take("-- nothing was exchanged with this peer in the last minutes")

    def may_want(self, sighting: Sighting) -> bool:
        """Whether it is of a peer that is meant; a request to a group may be what such a peer answers."""
        return sighting.group is not None or self._is_meant(sighting.peer)

    def see(self, seen: Seen) -> None:
        """Show it, if it is wanted and there is room."""
        if not self._wants(seen):
            return
        now_s = self._context.clock.seconds()
        if now_s - self._second >= 1:
            self._second, self._lines = now_s, 0
        self._lines += 1
        if self._lines > LINES_A_SECOND or not (self._caught_up() and self._take(self._line(seen))):
            self._missed += 1
            if self._telling is None:
                self._telling = self._context.deadlines.after(_TELL_S, self._tell)

    def _caught_up(self) -> bool:
        """Whether all is told that could not be shown before, so that what comes next stands in its place."""
        if self._missed and self._take(f"-- {self._missed} messages not shown"):
            self._missed = 0
        return not self._missed

    def _tell(self) -> None:
        self._telling = None if self._caught_up() else self._context.deadlines.after(_TELL_S, self._tell)

    def _meant(self, peers: Iterator[Peer]) -> Iterator[Peer]:
        """The peers of the filter; without one those alone to whom something is under way."""
        for peer in peers:
            if self._is_meant(peer.address) and (self._ask.network is not None or peer.sending):
                yield peer

    def _tell_peer(self, peer: Peer) -> None:
        """The round trip of a peer that was named, and what is under way to it or waits."""
        if self._ask.network is not None:
            rtt = "no round trip was measured" if peer.rtt_s is None else f"the round trip takes {peer.rtt_s * 1000:.0f} ms"
            self._take(f"-- {self._endpoint(peer.address)}: {rtt}")
        for transmission in [*peer.sending.values()][:_UNDER_WAY_TOLD]:
            seen = self._context.tap.look_back(Sighting(transmission.sent_at, Way.SENT, transmission.datagram, peer.address))
            if transmission.confirmable and self._wants(seen):
                self._take(f"{self._line(seen)} (not acknowledged yet; to be sent {transmission.retries_left} times more)")
        for transmission in peer.waiting[:_UNDER_WAY_TOLD]:
            # Not sent yet: when it is, that is its first time.
            sighting = Sighting(self._context.clock.seconds(), Way.WAITING, transmission.datagram, peer.address)
            seen = take_apart(sighting, Conversations())
            if self._wants(seen):
                self._take(f"{self._line(seen)} (waits for what is on its way)")

    def _wants(self, seen: Seen) -> bool:
        ask, sighting, topic = self._ask, seen.sighting, seen.topic
        if ask.group is not None and topic.group != ask.group:
            return False
        if ask.path is not None and (topic.path is None or topic.path[: len(ask.path)] != ask.path):
            return False
        # Who asks for a group and one of its members wants the request too, which went to all of them.
        request_of_group = ask.group is not None and sighting.group is not None and sighting.way is not Way.RECEIVED
        return request_of_group or self._is_meant(sighting.peer)

    def _is_meant(self, peer: Sockaddr) -> bool:
        network = self._ask.network
        if network is None:
            return True
        if self._ask.zone and not (is_ipv6(peer) and self._ask.zone in (str(peer[3]), self._context.names.get(peer[3]))):
            return False
        if self._only is not None:
            return peer[0] == self._only
        known = self._hosts.get(peer[0])
        if known is None:
            if len(self._hosts) >= _KNOWN_HOSTS:
                self._hosts.clear()
            known = self._hosts[peer[0]] = ip_address(peer[0]) in network
        return known

    def _line(self, seen: Seen) -> str:
        sighting = seen.sighting
        way, group = sighting.way, sighting.group
        words = [self._time(sighting.at_s), self._interface(sighting), way.value]
        words.append(f"{'group ' if group and way is not Way.RECEIVED else ''}{self._endpoint(sighting.peer)}")
        if group is not None and way is Way.RECEIVED:
            words.append(f"to group {group}")
        elif sighting.local is not None:
            words.append(f"{'to' if way is Way.RECEIVED else 'from'} {sighting.local}")
        payload = self._ask.payload and not any(seen.topic.path[: len(path)] == path for path in _SECRET_PATHS if seen.topic.path)
        words.append(describe(seen.message, sighting.data, payload=payload))
        words += self._notes(seen)
        return " ".join(words)

    def _notes(self, seen: Seen) -> list[str]:
        """What the datagram alone does not say."""
        way, message = seen.sighting.way, seen.message
        notes = []
        if way is Way.NOT_SENT:
            notes.append("(not sent: the system did not take it)")
        elif way is Way.GIVEN_UP:
            notes.append("(given up: never acknowledged)")
        if seen.again:
            notes.append("(again)")
        if seen.topic.group is not None and seen.sighting.group is None and isinstance(message, Message):
            notes.append(f"(asked through group {seen.topic.group})")
        return notes

    def _endpoint(self, address: Sockaddr) -> str:
        return endpoint_text(address, self._context.names)

    def _interface(self, sighting: Sighting) -> str:
        index = sighting.interface or (sighting.peer[3] if is_ipv6(sighting.peer) else 0)
        return self._context.names.get(index, str(index)) if index else "-"

    def _time(self, at_s: float) -> str:
        """The time of day, UTC, to the millisecond; of what is long past the day too."""
        age_s = self._context.clock.seconds() - at_s
        text = rfc3339(self._now_ms() - round(age_s * 1000))
        return text[_TIME_OF_DAY] if age_s < _DAY_TOLD_S else text
