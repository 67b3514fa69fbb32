"""What a message that passes belongs to: the request that it answers or acknowledges, and the same datagram before it.

Pure, and only for those who look on: the exchange itself matches messages in `exchange` and `tokens`, strictly, while here a guess
that is nearly always right will do. Bounded: what is not found any more is shown without its request.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from m2mapp.coap import things
from m2mapp.coap.message import Message
from m2mapp.net.interfaces import Sockaddr

_REMEMBERED: Final = 4_096
_LAST_REQUEST_CODE: Final = 31
_LIFETIME_S: Final = 247.0
"""EXCHANGE_LIFETIME (RFC 7252, section 4.8.2): the same datagram after that is another message."""

_Key = tuple[object, ...]


class Topic(NamedTuple):
    """What a message is about: the path of the request (None: not known), and the group that was asked, if one was."""

    path: tuple[bytes, ...] | None
    group: str | None


_UNKNOWN: Final = Topic(None, None)


class Conversations:
    """The requests that passed lately, by token and by message ID, and the datagrams."""

    def __init__(self) -> None:
        self._topics: OrderedDict[_Key, Topic] = OrderedDict()
        self._passed: OrderedDict[_Key, float] = OrderedDict()

    def topic(self, message: Message, peer: Sockaddr, group: str | None, *, outgoing: bool) -> Topic:
        """What the message is about; a request, and an answer that can itself be acknowledged or reset, is remembered for that."""
        if things.EMPTY < message.code <= _LAST_REQUEST_CODE:
            topic = Topic(message.every(things.URI_PATH), group)
            # The answers to a request to a group come from anywhere: its token alone says whose they are.
            whom = None if group is not None and outgoing else peer
            self._remember(("token", outgoing, whom, message.token), topic)
            self._remember(("mid", outgoing, whom, message.mid), topic)
            return topic
        if message.code == things.EMPTY:
            return self._find(("mid", not outgoing, peer, message.mid), ("mid", not outgoing, None, message.mid)) or _UNKNOWN
        topic = self._find(("token", not outgoing, peer, message.token), ("token", not outgoing, None, message.token)) or _UNKNOWN
        if message.mtype != things.ACK:
            self._remember(("mid", outgoing, peer, message.mid), topic)
        return topic

    def came_before(self, datagram: _Key, at_s: float) -> bool:
        """Whether this very datagram passed within EXCHANGE_LIFETIME: a retransmission, or a duplicate that the network made."""
        before = self._passed.get(datagram)
        self._passed[datagram] = at_s
        self._passed.move_to_end(datagram)
        if len(self._passed) > _REMEMBERED:
            self._passed.popitem(last=False)
        return before is not None and at_s - before < _LIFETIME_S

    def _remember(self, key: _Key, topic: Topic) -> None:
        self._topics[key] = topic
        self._topics.move_to_end(key)
        if len(self._topics) > _REMEMBERED:
            self._topics.popitem(last=False)

    def _find(self, *keys: _Key) -> Topic | None:
        for key in keys:
            found = self._topics.get(key)
            if found is not None:
                self._topics.move_to_end(key)
                return found
        return None
