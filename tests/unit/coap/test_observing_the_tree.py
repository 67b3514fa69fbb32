"""Observing what the tree holds: the dispatcher answers, the tree says what changed, whatever part of the program owns the resource."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.message import Message, empty, number_in, uint
from m2mapp.coap.parameters import Limits
from m2mapp.formats.link_format import parse_links
from m2mapp.formats.uris import parse_uri
from m2mapp.groups.group import group_types
from m2mapp.model.messages import Method
from m2mapp.model.principal import Right
from m2mapp.net.interfaces import Sockaddr
from m2mapp.registry.scl import SCL_TYPE
from m2mapp.tree.service import Observed
from m2mapp.tree.unit import Unit, Write
from tests.unit.coap.fakes import PEER, Node, get
from tests.unit.fakes import answer_of, ask, build_tree

_LIMITS = Limits(observe_pace_s=0.0, observers=64, observers_per_host=8, observers_per_resource=32)


class TreeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node(limits=_LIMITS)
        self.built = build_tree([SCL_TYPE, *group_types(lambda name: f"coap://gw/groups/{name}")])
        self.node.principals.rights = frozenset({Right.READ, Right.DISCOVER})
        self.node.handler.answer = self.built.dispatcher.handle
        self.node.service.observe(Observed(self.built.tree, self.built.types))
        self.mid = 0

    def tearDown(self) -> None:
        self.assertEqual((self.node.stop(), self.built.errors), ([], []))

    def write(self, path: str, text: bytes) -> None:
        """A write of the node itself."""
        answer_of(self.built, ask(Method.PUT, path, text, "text/plain"))

    def observe(self, path: str, source: Sockaddr = PEER, query: bytes | None = None) -> Message:
        """The answer to a registration."""
        self.mid += 1
        options = [(things.OBSERVE, b"")] + ([] if query is None else [(things.URI_QUERY, query)])
        return self.node.receive(get(path, self.mid, options)._replace(token=b"%d" % self.mid), source)[0]

    def told(self) -> list[Message]:
        """What is sent in the next second; notifications are acknowledged."""
        self.node.port.take()
        sent: list[Message] = []
        acknowledged = 0
        for _ in range(10):
            self.node.clock.advance(0.1)
            sent += self.node.port.take()
            while acknowledged < len(sent):
                sent += self.node.receive(empty(things.ACK, sent[acknowledged].mid), PEER)
                acknowledged += 1
        return sent

    def test_pages(self) -> None:
        """A collection is read page by page over CoAP: a document has `next`, a list of links one with rel=next, whose target is a URI."""
        for number in range(7):
            self.write(f"/room/lamp{number}", b"off")
        found: list[str] = []
        query = [(things.URI_QUERY, b"limit=3")]
        while query:
            self.mid += 1
            (answer,) = self.node.receive(get("room", self.mid, [*query, (things.ACCEPT, uint(40))]))
            links = parse_links(answer.payload.decode())
            found += [link.target for link in links if link.get("rel") is None]
            further = [parse_uri("coap://gw" + link.target) for link in links if link.get("rel") == "next"]
            query = [(things.URI_QUERY, f"{key}={value}".encode()) for uri in further for key, value in uri.query]
        self.assertEqual(found, [f"/room/lamp{number}" for number in range(7)])
        (answer,) = self.node.receive(get("room", 99, [(things.URI_QUERY, b"limit=3")]))
        self.assertEqual(json.loads(answer.payload)["next"], "lamp2")

    def test_content(self) -> None:
        """A content resource: each write is told, with the number of the change and the ETag that a GET shows; its end is 4.04."""
        self.write("/room/lamp", b"off")
        first = self.observe("room/lamp")
        self.write("/room/lamp", b"on")
        self.write("/room/other", b"x")
        told = self.told()
        self.assertEqual([message.payload for message in told], [b"on"])
        self.assertEqual(number_in(told[0].first(things.OBSERVE) or b""), self.built.tree.committed_number)
        self.assertGreater(told[0].first(things.OBSERVE) or b"", first.first(things.OBSERVE) or b"")
        self.assertEqual(told[0].first(things.ETAG), answer_of(self.built, ask(Method.GET, "/room/lamp")).etag)
        answer_of(self.built, ask(Method.DELETE, "/room"))
        self.assertEqual([message.code for message in self.told()], [things.NOT_FOUND])
        self.assertEqual(len(self.node.service.server.observers), 0)

    def test_collection(self) -> None:
        """A collection and the root tell what happens below; a plain resource with `?subtree` too."""
        self.write("/room/lamp", b"off")
        self.observe("room")
        self.observe("")
        self.write("/room/deep/down", b"x")
        told = self.told()
        self.assertEqual({message.token for message in told}, {b"1", b"2"})
        self.assertTrue(any(b"deep" in message.payload for message in told))
        self.observe("room/lamp", query=b"subtree")
        self.write("/room/lamp/child", b"x")
        self.assertIn(b"3", {message.token for message in self.told()})

    def test_derived(self) -> None:
        """Registrations and groups are observed as the tree's own resources are: by what changes in them or below."""
        scl = {"hosts": ["d1.example.org"], "addresses": ["fd00::d1"], "lifetime": 300}
        unit = Unit((Write(("scls", "d1"), SCL_TYPE.name, SCL_TYPE.check("d1", scl)),))
        self.built.committer.commit(unit)
        self.observe("scls/d1")
        self.observe("scls")
        self.built.committer.commit(Unit((Write(("scls", "d1"), SCL_TYPE.name, SCL_TYPE.check("d1", {**scl, "lifetime": 600})),)))
        told = self.told()
        self.assertEqual({message.token for message in told}, {b"1", b"2"})
        self.assertTrue(any(b"600" in message.payload for message in told))

    def test_discovery(self) -> None:
        """Discovery can be observed: a new resource is told."""
        self.observe(".well-known/core")
        self.write("/room/lamp", b"off")
        self.assertIn(b"</room/lamp>", self.told()[0].payload)

    def test_what_is_not_in_the_tree(self) -> None:
        """What only a capability makes up is no resource of the tree, and is answered without Observe."""
        observed = Observed(self.built.tree, self.built.types)
        self.assertIsNone(observed.watch(("groups", "g", "membersContent"), lambda: None, subtree=True))
        self.assertEqual(self.observe("nothing").code, things.NOT_FOUND)

    def test_a_thousand_that_never_answer(self) -> None:
        """A thousand hosts observe, and never acknowledge: no more than the limit is kept, and in the end nothing."""
        self.write("/t", b"0")
        for host in range(1000):
            self.observe("t", (f"fd00::1:{host:x}", 5683, 0, 0))
        observers = self.node.service.server.observers
        self.assertEqual(len(observers), 32)
        for value in range(300):
            self.write("/t", b"%d" % value)
            self.node.clock.advance(1)
        self.assertEqual(len(observers), 0)
        sent = [message for message in self.node.port.take() if message.first(things.OBSERVE) is not None and message.mtype == things.CON]
        self.assertEqual(len(sent), 32 * 5)
        self.node.clock.advance(600)
        self.assertLess(len(self.node.context.deadlines), 3)
        self.assertEqual(sum(len(peer.sending) for peer in self.node.service.endpoint.layers[0].peers.all()), 0)

    def test_one_host_of_many_ports(self) -> None:
        """One host cannot take the place of others by using many ports."""
        self.write("/t", b"0")
        answers = [self.observe("t", ("fd00::7", port, 0, 0)) for port in range(1, 30)]
        self.assertEqual(sum(answer.first(things.OBSERVE) is not None for answer in answers), 8)
        self.assertEqual(self.observe("t").first(things.OBSERVE), uint(self.built.tree.committed_number))
