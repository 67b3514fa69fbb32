"""This node's requests to peers that want Echo (RFC 9175, section 2.3), and payloads that are told apart by Request-Tag (section 3)."""

from __future__ import annotations

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Message
from m2mapp.coap.tags import RequestTags
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing, Response, Status
from tests.unit.coap.fakes import CONTENT, GROUP, Node
from tests.unit.coap.test_client import URI, ClientCase, Scripted
from tests.unit.coap.test_gather import GatherCase
from tests.unit.coap.test_observation import ObservationCase

ECHO = Message(things.ACK, things.UNAUTHORIZED, 0, options=((numbers.ECHO, b"prove it"),))
DONE = Message(things.ACK, things.CONTENT, 0, payload=b"21.5")
READ = Outgoing(Method.GET, URI)


class TransferTests(ClientCase):
    def script(self, *answers: Message) -> Scripted:
        """A device that answers so."""
        scripted = Scripted(self.simulation, self.device)
        scripted.answers = [[answer] for answer in answers]
        return scripted

    def test_repeated_once(self) -> None:
        """A request that is answered 4.01 with Echo goes out again with it, with a token and an ID of its own."""
        scripted = self.script(ECHO, DONE)
        self.assertEqual(self.ask(READ).payload, b"21.5")
        first, second = scripted.received
        self.assertEqual((first.first(numbers.ECHO), second.first(numbers.ECHO)), (None, b"prove it"))
        self.assertNotEqual((first.token, first.mid), (second.token, second.mid))
        self.assertEqual([option for option in second.options if option[0] != numbers.ECHO], list(first.options))
        self.nothing_left()

    def test_not_for_ever(self) -> None:
        """A peer that is not satisfied with that: the caller gets its 4.01, as it does where there is no Echo, or an odd one."""
        self.assertEqual((self.script(ECHO, ECHO, DONE), self.ask(READ).code)[1], "4.01")
        for odd in ((), ((numbers.ECHO, b""),), ((numbers.ECHO, b"x" * 41),)):
            self.build(self.simulation.__class__(1))
            scripted = self.script(ECHO._replace(options=odd), DONE)
            self.assertEqual((self.ask(READ).code, len(scripted.received)), ("4.01", 1))

    def test_between_blocks(self) -> None:
        """In a payload of several blocks each may be asked for Echo once, and goes out again by itself."""
        one = Message(things.ACK, things.CONTINUE, 0, options=((things.BLOCK1, Block(0, True, 6).build()),))
        scripted = self.script(ECHO, one, ECHO, DONE._replace(code=things.CHANGED))
        self.assertEqual(self.ask(Outgoing(Method.PUT, URI, b"x" * 1500)).code, "2.04")
        self.assertEqual([len(message.payload) for message in scripted.received], [1024, 1024, 476, 476])
        self.assertEqual([bool(message.first(numbers.ECHO)) for message in scripted.received], [False, True, False, True])

    def test_our_own_server(self) -> None:
        """This program's server, to which we are far, serves this program's client, large answers and large payloads."""
        handler = self.serve(
            lambda request: CONTENT._replace(payload=b"x" * 5000) if request.method is Method.GET else Response(Status.CHANGED)
        )
        handler.principals.far.add("fd00::1")
        self.assertEqual(self.ask(READ).payload, b"x" * 5000)
        self.assertEqual(self.ask(Outgoing(Method.PUT, URI, b"y" * 5000)).code, "2.04")
        self.assertEqual(len(handler.requests), 3)
        self.nothing_left()

    def test_request_tags(self) -> None:
        """Payloads that go to one resource at the same time arrive whole: all but one bear a Request-Tag; alone none does."""
        handler = self.serve(lambda request: Response(Status.CHANGED, request.payload[:1] * 3000, "text/plain"))
        seen: list[tuple[bytes, ...]] = []
        take = self.server.endpoint.on_request

        def on_request(layer: object, inbound: object, message: Message) -> None:
            seen.append(message.every(numbers.REQUEST_TAG))
            take(layer, inbound, message)  # type: ignore[arg-type]

        self.server.endpoint.layers[0]._above = _Above(self.server.endpoint, on_request)  # type: ignore[assignment]
        payloads = [bytes([65 + index]) * (3000 + index) for index in range(4)]
        asked = [self.client.request(Outgoing(Method.POST, URI, payload)) for payload in payloads]
        answers = [self.scheduler.run_until_fired(each) for each in asked]
        self.assertEqual([answer.payload for answer in answers], [payload[:1] * 3000 for payload in payloads])
        self.assertEqual(sorted(request.payload for request in handler.requests), sorted(payloads))
        self.assertEqual(set(seen), {(), (b"\x01",), (b"\x02",), (b"\x03",)})
        seen.clear()
        self.ask(Outgoing(Method.POST, URI, b"x" * 3000))
        self.assertEqual((set(seen), len(self.service.endpoint.tags)), ({()}, 0))


class _Above:
    """What a message layer hands to, with a function in place of the endpoint's for requests."""

    def __init__(self, endpoint: Endpoint, on_request: object) -> None:
        self.on_request, self.on_response = on_request, endpoint.on_response


class TagTests(ClientCase):
    def test_numbers(self) -> None:
        """The smallest free number, for each kind by itself."""
        tags = RequestTags()
        self.assertEqual([tags.take("a"), tags.take("a"), tags.take("b"), tags.take("a")], [0, 1, 0, 2])
        tags.release("a", 1)
        self.assertEqual((tags.take("a"), len(tags)), (1, 2))
        for what, number in (("a", 0), ("a", 1), ("a", 2), ("b", 0)):
            tags.release(what, number)
        self.assertEqual(len(tags), 0)


class GroupTests(GatherCase):
    def test_a_member_that_wants_echo(self) -> None:
        """A member that answers a group request with 4.01 and Echo is asked alone with it, payload and all, and counts."""
        outgoing = GroupOutgoing(Method.POST, GROUP, ("lamps",), payload=b"on", content_type="text/plain", request_id=b"12345678")
        node = Node()
        gathering = node.service.send_to_group(outgoing, self.answers.append)
        sent = node.port.groups[0][0]
        wants = ECHO._replace(mtype=things.NON, token=gathering.token, mid=7)
        (asked,) = node.receive(wants, ("fd00::d1", 5683, 0, 0))
        self.assertEqual((asked.mtype, asked.first(numbers.ECHO), asked.payload), (things.CON, b"prove it", b"on"))
        self.assertEqual(asked.first(numbers.REQUEST_ID), b"12345678")
        self.assertIsNone(asked.first(numbers.NO_RESPONSE))
        self.assertEqual(node.receive(wants._replace(mid=8), ("fd00::d1", 5683, 0, 0)), [], "it is being asked")
        node.receive(Message(things.ACK, things.CHANGED, asked.mid, asked.token, (), b"done"), ("fd00::d1", 5683, 0, 0))
        self.assertEqual([(answer.code, answer.payload, answer.source) for answer in self.answers], [("2.04", b"done", "fd00::d1")])
        self.assertIn(b"on", sent)
        gathering.close()
        self.assertEqual(node.stop(), [])

    def test_members_of_this_program(self) -> None:
        """Members to which the group server is far: all answers arrive."""
        for index in range(3):
            handler = self.member(index, CONTENT._replace(payload=b"v" * 700, leisure_s=0.1))
            handler.principals.far.add("fd00::1")
        gathering = self.service.send_to_group(GroupOutgoing(Method.GET, GROUP, ("t",)), self.answers.append)
        self.scheduler.advance(3)
        gathering.close()
        self.assertEqual(sorted(answer.payload for answer in self.answers), [b"v" * 700] * 3)
        self.assertEqual({answer.code for answer in self.answers}, {"2.05"})


class ObservationTests(ObservationCase):
    def test_registration(self) -> None:
        """A registration that is answered 4.01 with Echo goes out again with it, with the same token; once."""
        (again,) = self.receive(things.ACK, None, code=things.UNAUTHORIZED, more=((numbers.ECHO, b"prove it"),))
        self.assertEqual((again.first(numbers.ECHO), again.first(things.OBSERVE)), (b"prove it", b""))
        self.assertEqual(again.token, self.registration.token)
        self.registration = again
        self.receive(things.ACK, 5, b"on")
        self.assertEqual((self.told, self.observation.observed), ([b"on"], True))
        self.observation.cancel()
        self.later(100)

    def test_not_for_ever(self) -> None:
        """Asked for Echo again, the observation ends with that answer."""
        (again,) = self.receive(things.ACK, None, code=things.UNAUTHORIZED, more=((numbers.ECHO, b"prove it"),))
        self.registration = again
        self.assertEqual(self.receive(things.ACK, None, code=things.UNAUTHORIZED, more=((numbers.ECHO, b"more"),)), [])
        self.assertEqual([end.code for end in self.ends if isinstance(end, Answer)], ["4.01"])
