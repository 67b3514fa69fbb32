"""Where those who look on see each datagram of a node's CoAP ports, in and out, with what is known of its way.

Responsible for handing datagrams to viewers, and for a short list of what was given up, which is kept though nobody looks. Not
responsible for what a viewer makes of them (`viewer`, `display`). While nobody looks, a datagram costs the test of `viewers`, and a
message that a viewer cannot take harms nobody: what a viewer raises ends its viewing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, Protocol

from twisted.logger import Logger

from m2mapp.coap.conversations import Conversations, Topic
from m2mapp.coap.message import MalformedMessage, Message, parse
from m2mapp.net.interfaces import Sockaddr

_log = Logger()

GIVEN_UP_KEPT: Final = 64


class Way(Enum):
    """What became of a datagram here, with the sign that a line has for it."""

    RECEIVED = "<-"
    SENT = "->"
    WAITING = ".."
    """It waits until fewer messages are on their way to this peer (NSTART, RFC 7252, section 4.7)."""
    NOT_SENT = "-x"
    """The system did not take it: no route, no such interface, a full buffer."""
    GIVEN_UP = "!!"
    """The message was repeated and never acknowledged."""


class Sighting(NamedTuple):
    """One datagram as it passed. `at_s` is of the clock that does not step.

    `peer` is the other end: of a datagram that goes out to a group the group's address and port. `local` is the address of this node
    that it came to or leaves from, where that is known; `group` the multicast address, if there is one; `interface` an index, 0 where
    the routes choose.
    """

    at_s: float
    way: Way
    data: bytes
    peer: Sockaddr
    local: str | None = None
    group: str | None = None
    interface: int = 0


class Seen(NamedTuple):
    """A sighting taken apart: the message, or why it is none; what it is about; and whether this very datagram passed before."""

    sighting: Sighting
    message: Message | MalformedMessage
    topic: Topic
    again: bool


class Sees(Protocol):
    """Who looks on."""

    def may_want(self, sighting: Sighting) -> bool:
        """Whether this could be for its eyes, by what is known without a look into it."""

    def see(self, seen: Seen) -> None:
        """Something passed."""


class Tap:
    """The tap of one node. `seconds` is the time of the clock that does not step. Who has a datagram tests `viewers` first."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.viewers: tuple[Sees, ...] = ()
        self.given_up: deque[Sighting] = deque(maxlen=GIVEN_UP_KEPT)
        self._seconds = seconds
        self._conversations = Conversations()

    def add(self, viewer: Sees) -> None:
        """From now on it sees what passes."""
        self.viewers = (*self.viewers, viewer)

    def remove(self, viewer: Sees) -> None:
        """It sees nothing any more; again: nothing. With the last one goes what was kept for them."""
        self.viewers = tuple(one for one in self.viewers if one is not viewer)
        if not self.viewers:
            self._conversations = Conversations()

    def received(self, data: bytes, source: Sockaddr, destination: str, interface: int, *, to_group: bool) -> None:
        """A datagram came in."""
        self._show(Sighting(self._seconds(), Way.RECEIVED, data, source, destination, destination if to_group else None, interface))

    def sent(self, data: bytes, to: Sockaddr, local: str | None, *, taken: bool) -> None:
        """A datagram went to one peer, if the system has taken it."""
        self._show(Sighting(self._seconds(), Way.SENT if taken else Way.NOT_SENT, data, to, local))

    def sent_to_group(self, data: bytes, group: Sockaddr, interface: int, *, taken: bool) -> None:
        """A datagram went to a group by one interface, if the system has taken it."""
        self._show(Sighting(self._seconds(), Way.SENT if taken else Way.NOT_SENT, data, group, None, group[0], interface))

    def gave_up(self, data: bytes, peer: Sockaddr) -> None:
        """A message that needed an acknowledgement did not get one. Called whether somebody looks or not."""
        sighting = Sighting(self._seconds(), Way.GIVEN_UP, data, peer)
        self.given_up.append(sighting)
        if self.viewers:
            self._show(sighting)

    def look_back(self, sighting: Sighting) -> Seen:
        """What was sent before anybody looked: what belongs to it will be known as such, and the same again as a repetition."""
        return take_apart(sighting, self._conversations)._replace(again=False)

    def _show(self, sighting: Sighting) -> None:
        seen: Seen | None = None
        for viewer in self.viewers:
            try:
                if viewer.may_want(sighting):
                    seen = seen or take_apart(sighting, self._conversations)
                    viewer.see(seen)
            except Exception:  # noqa: BLE001 - who looks on must not keep a message from those whom it is for
                _log.failure("a viewer of the wire failed, and sees no more")
                self.remove(viewer)


def take_apart(sighting: Sighting, conversations: Conversations) -> Seen:
    """What a datagram says, and what it belongs to among those before it. Nothing that it holds makes this raise."""
    message: Message | MalformedMessage
    try:
        message = parse(sighting.data)
    except MalformedMessage as fault:
        return Seen(sighting, fault, Topic(None, sighting.group), again=False)
    outgoing = sighting.way is not Way.RECEIVED
    topic = conversations.topic(message, sighting.peer, sighting.group, outgoing=outgoing)
    # A message that was given up was seen before, each time it was sent.
    again = sighting.way is not Way.GIVEN_UP and conversations.came_before(
        (outgoing, sighting.peer, sighting.interface, hash(sighting.data)), sighting.at_s
    )
    return Seen(sighting, message, topic, again)
