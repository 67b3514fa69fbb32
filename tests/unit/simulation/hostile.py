"""A hostile neighbourhood of a whole simulated node: hosts that send mutations of real datagrams, to it alone and to its groups.

Responsible for sending, for answering what the node asks of them (wrongly, too), and for having each datagram that they get judged
(`tests.unit.coap.allowed`). Not responsible for what is expected of the node afterwards.
"""

from __future__ import annotations

import random
from collections import Counter

from zope.interface import implementer

from m2mapp.coap import things
from m2mapp.coap.message import MalformedMessage, Message, build, parse
from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Method
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, Sockaddr
from m2mapp.net.medium import Quality
from tests.simulation import Simulation
from tests.unit.coap.allowed import Judge
from tests.unit.coap.fakes import vectors
from tests.unit.coap.mutations import Mutations
from tests.unit.simulation.world import GATEWAY_ADDRESS, Box, build_box

GROUP = "ff15::4d32"
"""The group that the node is a member of."""
_GROUPS = (GROUP, "ff02::fd", "ff05::fd")
_WRITERS, _READERS = "fd00::a:0/112", "fd00::b:0/112"
_HOSTS = tuple(f"fd00::{kind}:{number:x}" for kind, count in (("a", 10), ("b", 3), ("c", 2)) for number in range(1, count + 1))
"""Hosts that may write, that may read, and that may do nothing."""
_ANSWERS = tuple(
    Message(mtype, code, 0, b"", options, b"21.5")
    for mtype, code, options in (
        (things.ACK, things.CONTENT, ((things.ETAG, b"12"), (things.BLOCK2, b"\x08"))),
        (things.ACK, things.CHANGED, ()),
        (things.NON, things.CONTENT, ((things.OBSERVE, b"\x01"),)),
        (things.CON, things.NOT_FOUND, ((9, b"critical"),)),
        (things.ACK, things.CONTINUE, ((things.BLOCK1, b"\x08"),)),
    )
)
_MEMBERS = 3
_TO_GROUP, _AGAIN = 0.2, 0.1
"""Which part of the datagrams goes to a group, and which is the one before, once more."""
SETTLE_S = 700.0
"""Every exchange, transfer and observation of a round is over by then: EXCHANGE_LIFETIME is 247 s, an observer has 93 s to confirm."""


@implementer(IDatagramReceiver)
class _Hostile:
    """One port of a hostile host."""

    def __init__(self, neighbourhood: Neighbourhood, host: str, number: int) -> None:
        self._around = neighbourhood
        self.name = (host, number)
        self.received: list[bytes] = []
        self.port: IDatagramPort = neighbourhood.network.open_port(host, number, self)

    def send(self, data: bytes, group: str | None) -> None:
        """Send to the node, or to a group."""
        self._around.judge.sent(self.name, data, to_group=group is not None)
        if group is None:
            self.port.send(data, (GATEWAY_ADDRESS, 5683, 0, 0))
        else:
            self.port.send_to_group(data, group, 5683, self._around.interface)

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """Have it judged; acknowledge or reset what the node sends now and then, and answer what it asks, wrongly or right."""
        around = self._around
        self.received.append(data)
        reason = around.judge.got(self.name, data)
        if reason:
            around.forbidden.append(f"{data.hex()} to {self.name}: {reason}")
        reply = around.reply(data)
        if reply is not None:
            self.send(reply, None)


class Neighbourhood:
    """The hostile hosts of one node. `member_hosts` are those whose resources the node's group has as members."""

    def __init__(self, simulation: Simulation) -> None:
        addresses = [f"{host}/64" for host in _HOSTS]
        self.network = simulation.network.attach("hostile", {"eth0@lan": addresses})
        self.interface = self.network.interface_index("eth0")
        self.scheduler = simulation.scheduler
        self.rng: random.Random = simulation.scheduler.generator("hostile hosts")
        self.judge = Judge()
        self.forbidden: list[str] = []
        """Each datagram that the node must not have sent, with the reason."""
        self.answered: Counter[int] = Counter()
        """How many responses of each code there were in all rounds."""
        self.asked_of_members = 0
        self.mutations = Mutations(self.rng, list(vectors().values()))
        self.member_hosts = _HOSTS[:_MEMBERS]
        self._members = [_Hostile(self, host, 5683) for host in self.member_hosts]
        self._first_port, self._honest_mid = 10_000, 0

    def round(self, count: int) -> None:
        """So many datagrams from ports not used before; then so long a silence that all of it is over."""
        self._first_port += 10
        ports = [_Hostile(self, host, self._first_port + more) for host in _HOSTS for more in (0, 1)]
        sent: tuple[_Hostile, bytes, str | None] = (ports[0], b"", None)
        for _ in range(count):
            if self.rng.random() >= _AGAIN:
                group = self.rng.choice(_GROUPS) if self.rng.random() < _TO_GROUP else None
                sent = (self.rng.choice(ports), self.mutations.next(), group)
            sent[0].send(*sent[1:])
            self.scheduler.advance(self.rng.choice((0.0, 0.002, 0.02)))
        self.scheduler.advance(SETTLE_S)
        for hostile in ports:
            hostile.port.stop()
        self.answered += self.judge.answered
        self.judge = Judge()

    def ask_well(self, code: int, path: bytes) -> Message:
        """A good confirmable request of a host that may do everything; what came back first."""
        honest = _Hostile(self, _HOSTS[0], 9)
        self._honest_mid += 1
        honest.send(build(Message(things.CON, code, self._honest_mid, b"good", ((things.URI_PATH, path),))), None)
        self.scheduler.advance(1.0)
        honest.port.stop()
        return parse(honest.received[0])

    def reply(self, data: bytes) -> bytes | None:
        """What a hostile host answers to that."""
        try:
            message = parse(data)
        except MalformedMessage:
            return None
        chance = self.rng.random()
        if things.EMPTY < message.code < 32:
            self.asked_of_members += 1
            answer = self.rng.choice(_ANSWERS)._replace(mid=message.mid, token=message.token)
            return build(answer) if chance < 0.3 else self.mutations.of(build(answer)) if chance < 0.8 else None
        if message.mtype == things.CON and chance < 0.7:
            return build(Message(things.ACK if chance < 0.5 else things.RST, things.EMPTY, message.mid))
        return None


def hostile_gateway(simulation: Simulation) -> Box:
    """A gateway that groups, registers, and is a member itself; some of the hostile hosts may write to it, some read, some nothing."""
    access = AccessSettings((_WRITERS, _READERS), (_WRITERS,), (_WRITERS,), (_WRITERS,))
    coap = CoapSettings(((GATEWAY_ADDRESS, 5683),), ("eth0",), access)
    settings = Settings(NodeSettings("gw.example.org", (), "unused"), coap=coap, groups=GroupSettings(deadline_s=20.0), member=True)
    simulation.network.set_quality(Quality(delay_s=(0.0005, 0.003)))
    box = build_box(simulation, settings, GATEWAY_ADDRESS)
    box.start()
    return box


def furnish(box: Box, members: tuple[str, ...]) -> None:
    """Give the node what the real datagrams ask for: contents small and large, registered devices, a group, a membership."""
    for path, content in (("/temperature", b"21.5"), ("/x", b"1"), ("/obs", b"2"), ("/large", b"x" * 5000), ("/room/lamp", b"on")):
        box.ask(Method.PUT, path, content)
    for number, address in enumerate(members, start=1):
        document = {"hosts": [f"d{number}.example.org"], "addresses": [address], "multicastEnabled": True, "lifetime": 86_400}
        box.ask(Method.PUT, f"/scls/d{number}", document)
    uris = [f"coap://d{number}.example.org/temperature" for number in range(1, len(members) + 1)]
    box.ask(Method.PUT, "/groups/all", {"members": uris})
    box.ask(Method.PUT, "/mcGroups/all", {"mcAddress": GROUP, "memberList": ["/"]})


def clear(box: Box) -> None:
    """Delete all that may be deleted."""
    for place in ("/", "/scls", "/groups", "/mcGroups"):
        children = box.read(place).get("children", [])
        for child in children if isinstance(children, list) else []:
            try:
                box.ask(Method.DELETE, f"{place.rstrip('/')}/{child['name']}")
            except Fault:
                continue
