"""Requests of this node to groups: one datagram for each interface, answers of many sources (RFC 7252, section 8; RFC 7967).

Responsible for sending, for matching answers by token alone, and for answers that come late. Not responsible for whose answers count,
nor for asking the silent again: the fan-out decides both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.coap import numbers, things
from m2mapp.coap.addresses import target_options
from m2mapp.coap.blocks import LARGEST_SIZE_EXPONENT, Block
from m2mapp.coap.client import request_options
from m2mapp.coap.context import Context
from m2mapp.coap.deadlines import Deadline
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Message, encode, uint
from m2mapp.coap.transfer import Asking, Transfer, answer_of, echo_of
from m2mapp.model.errors import AnswerTooLarge, Fault, Malformed, PeerFailed, TooLarge
from m2mapp.model.interfaces import IGathering
from m2mapp.model.messages import Answer, GroupOutgoing
from m2mapp.net.interfaces import IDatagrams, Sockaddr

LARGEST_PAYLOAD: Final = 16 << LARGEST_SIZE_EXPONENT
"""What one datagram carries, in bytes; a larger payload cannot go to a group (RFC 7959, section 2.8)."""

_log = Logger()


@implementer(IGathering)
class Gathering:
    """The answers to one group request. Made by `GroupSender.send`."""

    def __init__(self, asking: Asking, on_answer: Callable[[Answer], object], endpoint: Endpoint, context: Context) -> None:
        self._asking = asking
        self._on_answer = on_answer
        self._endpoint = endpoint
        self._context = context
        self._began = context.clock.seconds()
        self._open = True
        self._fetching: set[Sockaddr] = set()
        self.sent = 0
        self.token = endpoint.tokens.take(self)
        self._deadline: Deadline = context.deadlines.after(asking.timeout_s, self.close)

    def close(self) -> None:
        """Hand on no further answers. Late ones are counted, and acknowledged, as long as they may still be under way."""
        if self._open:
            self._open = False
            self._deadline.cancel()
            # RFC 7252, section 8.2: the token is not used again before answers can no longer come.
            self._context.deadlines.after(self._context.parameters.non_lifetime_s, partial(self._endpoint.tokens.release, self.token))

    def closed(self, why: str) -> None:
        """There will be no answers any more."""
        self._open = False
        self._deadline.cancel()

    @property
    def remote(self) -> Sockaddr:
        """The group."""
        return self._asking.remote

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """An answer of a member. Each is for this request, whoever sent it."""
        if not self._open:
            self._context.counters.late.add()
            return True
        block2 = None
        for number, value in message.options:
            if number & 1:  # critical: a response with one that is not known is rejected (RFC 7252, section 5.4.1)
                if number not in numbers.OPTIONS:
                    return False
                if number == things.BLOCK2 and block2 is None:
                    block2 = value
        try:
            more = block2 is not None and Block.parse(block2, "Block2").more
        except Malformed:
            return False
        echo = echo_of(message)
        if more or echo is not None:
            self._ask_alone(message, source, echo)
        else:
            self._on_answer(answer_of(message, message.payload, (self._endpoint.address_text(source), source[1]), self._elapsed_s()))
        return True

    def _ask_alone(self, first: Message, source: Sockaddr, echo: bytes | None) -> None:
        """Ask the member alone for the other blocks (RFC 7959, section 2.8), or all anew with the Echo that it wants (RFC 9175, 2.3).

        One whose answer does not come counts as silent; one that is too large for this node is told as one of a gateway: 5.02.
        """
        if source in self._fetching:
            return
        self._fetching.add(source)
        left_s = max(0.0, self._asking.timeout_s - self._elapsed_s())
        payload = b"" if echo is None else self._asking.payload
        asking = Asking(self._asking.code, source, self._asking.options, payload, left_s)
        try:
            transfer = Transfer(asking, self._endpoint, self._context)
            fetch = transfer.go_on_from(first) if echo is None else transfer.go_on_with(echo)
        except Fault as fault:
            self._fetch_failed(source, Failure(fault))
            return
        fetch.addCallback(partial(self._fetched, source))
        fetch.addErrback(partial(self._fetch_failed, source))

    def _fetched(self, source: Sockaddr, answer: Answer) -> None:
        self._fetching.discard(source)
        if self._open:
            self._on_answer(answer._replace(elapsed_s=self._elapsed_s()))
        else:
            self._context.counters.late.add()

    def _fetch_failed(self, source: Sockaddr, failure: Failure) -> None:
        self._fetching.discard(source)
        _log.info("a member of a group was asked alone and did not answer: {why}", why=failure.getErrorMessage())
        fault = failure.value
        if isinstance(fault, AnswerTooLarge) and self._open:
            code, address = numbers.code_text(things.BAD_GATEWAY), self._endpoint.address_text(source)
            self._on_answer(Answer(code, fault.detail.encode(), "text/plain", address, source[1], self._elapsed_s()))

    def _elapsed_s(self) -> float:
        return self._context.clock.seconds() - self._began


class GroupSender:
    """Sends requests to groups by the ports of an endpoint. `interfaces` are the names of the configured ones."""

    def __init__(self, endpoint: Endpoint, context: Context, datagrams: IDatagrams, interfaces: tuple[str, ...]) -> None:
        self._endpoint = endpoint
        self._context = context
        self._datagrams = datagrams
        self._interfaces = interfaces

    def send(self, outgoing: GroupOutgoing, on_answer: Callable[[Answer], object]) -> Gathering:
        """Send one datagram by each interface; every answer goes to `on_answer`.

        Raises `PeerFailed` where no interface could send, `TooLarge` for a payload of several blocks, `Overloaded`, `NotSupported`.
        """
        if len(outgoing.payload) > LARGEST_PAYLOAD:
            raise TooLarge("payload of a group request", LARGEST_PAYLOAD)
        deadline = [(numbers.DEADLINE, uint(int(outgoing.lifetime_s * 1000)))] if outgoing.tell_deadline else []
        fetch_options = request_options(outgoing, [*target_options(outgoing.path, outgoing.query), *deadline])
        # An empty No-Response asks for every kind of answer: a silent success would look like a loss (RFC 7967, section 2.1).
        options = tuple(sorted((*fetch_options, (numbers.NO_RESPONSE, b"")), key=lambda option: option[0]))
        code = numbers.CODE_OF_METHOD[outgoing.method]
        indexes = self._indexes(outgoing.interfaces or self._interfaces)
        asking = Asking(code, (outgoing.address, outgoing.port), fetch_options, outgoing.payload, outgoing.lifetime_s)
        mid = self._endpoint.group_mids.take(self._context.clock.seconds())
        gathering = Gathering(asking, on_answer, self._endpoint, self._context)
        datagram = encode(Message(things.NON, code, 0, gathering.token, options, outgoing.payload), things.NON, mid)
        for index in indexes:
            gathering.sent += self._send(datagram, outgoing, index)
        if not gathering.sent:
            gathering.closed("no interface could send")
            self._endpoint.tokens.release(gathering.token)
            raise PeerFailed(f"no interface could send to the group {outgoing.address}")
        return gathering

    def _send(self, datagram: bytes, outgoing: GroupOutgoing, index: int) -> bool:
        """Send by one interface, from the first port that can."""
        for port in self._endpoint.ports_of_family(outgoing.address):
            taken = port.send_to_group(datagram, outgoing.address, outgoing.port, index)
            if self._context.tap.viewers:
                self._context.tap.sent_to_group(datagram, (outgoing.address, outgoing.port), index, taken=taken)
            if taken:
                self._context.counters.sent.add()
                return True
        return False

    def _indexes(self, names: tuple[str, ...]) -> list[int]:
        """The interfaces' indexes; those that are not there are left out. Raises `PeerFailed` where none is named."""
        if not names:
            raise PeerFailed("no interface is configured for group requests: [coap] interfaces")
        indexes = []
        for name in names:
            try:
                indexes.append(self._datagrams.interface_index(name))
            except OSError as error:
                _log.warn("a group request does not go out by {name}: {error}", name=name, error=error)
        return indexes
