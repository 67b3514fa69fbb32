"""`lwm2m.client_objects`: what the gateway's own LwM2M objects answer to the server that it is registered at."""

from __future__ import annotations

import re

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.coap.observer import Observable
from m2mapp.formats import senml
from m2mapp.formats.documents import LINK_FORMAT, OCTETS, SENML_CBOR, SENML_JSON, TEXT
from m2mapp.lwm2m.attributes import MAX_PLACES, Attributes, Periods
from m2mapp.lwm2m.client_objects import MAX_LINKED, About, ClientObjects
from m2mapp.lwm2m.devices import DeviceObject
from m2mapp.lwm2m.drivers.telling import Telling
from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.tlv import Kind, parse
from m2mapp.model.errors import Forbidden, Malformed, MethodNotAllowed, NoSuchResource, NotAcceptable, TooLarge, Unauthenticated
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Multicast, Request, Response
from m2mapp.model.principal import NOBODY, Principal, Right
from tests.unit.fakes import ask
from tests.unit.lwm2m.reporting import duid, lease


class ClientObjectsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.devices = DeviceObject()
        self.objects = ClientObjects(About("g1.example.org", "1.0", 300), self.devices, lambda: 7)
        for number in range(2):
            self.devices.put(("leases", str(number)), lease(number).attributes)

    def get(self, path: str, *accept: str) -> Response:
        """The answer to a Read or Discover."""
        return self.answer(ask(Method.GET, path, accept=accept))

    def answer(self, request: Request) -> Response:
        """The answer to a request of the server."""
        answered = self.objects.handle(request)
        self.assertIsInstance(answered, Response)
        return answered or self.fail("silence")

    def test_interfaces(self) -> None:
        """It is what the endpoint wants of who answers, and of what can be observed."""
        self.assertTrue(verifyObject(IHandle, self.objects))
        observable: Observable = Telling(Clock(), self.objects)
        self.assertEqual(observable.number(), 7)

    def test_links(self) -> None:
        """A registration names the instances; the object alone where there are none, or too many."""
        self.assertEqual(self.objects.links(), "</1/0>,</3/0>,</33050/0>,</33050/1>")
        for number in range(2, MAX_LINKED + 1):
            self.devices.put(("leases", str(number)), lease(number).attributes)
        self.assertEqual(self.objects.links(), "</1/0>,</3/0>,</33050>")
        self.devices.clear()
        self.assertEqual(self.objects.links(), "</1/0>,</3/0>,</33050>")

    def test_read(self) -> None:
        """Objects, instances and resources are read as TLV, or as what the server accepts."""
        self.assertEqual([entry.identifier for entry in parse(self.get("/33050").payload)], [0, 1])
        self.assertEqual((self.get("/33050/1/0").payload, self.get("/33050/1/1").payload), (b"fd00::d:1", bytes.fromhex(duid(1))))
        self.assertEqual(self.get("/33050/1/0", TLV).payload, b"\xc8\x00\x09fd00::d:1")
        for media_type in (SENML_JSON, SENML_CBOR):
            records = senml.parse(self.get("/3/0", media_type).payload, media_type)
            self.assertEqual(records[0], senml.Record("/3/0/0", "m2mapp"))
            self.assertIn(senml.Record("/3/0/11/0", 0), records)
        codes = next(entry for entry in parse(self.get("/3/0").payload) if entry.identifier == 11)
        self.assertEqual((codes.kind, len(codes.value)), (Kind.MULTIPLE_RESOURCE, 1))
        self.assertEqual([entry.kind for entry in parse(self.get("/1").payload)], [Kind.OBJECT_INSTANCE])
        cases = {("/1/0/1", TEXT): b"300", ("/1/0/6", TEXT): b"0", ("/3/0/2", TEXT): b"g1.example.org"}
        for (path, accept), payload in cases.items():
            self.assertEqual(self.get(path, accept).payload, payload)
        self.assertEqual(self.get("/33050/1/1", OCTETS).payload, bytes.fromhex(duid(1)))

    def test_not_there(self) -> None:
        """What is not there is not found; a format that a thing has not is refused."""
        for path in ("/2", "/33050/2", "/33050/1/7", "/33050/1/0/0", "/3/1", "/x", "/33050/99999999", "/"):
            self.assertRaises(NoSuchResource, self.get, path)
        for path, accept in (("/33050", TEXT), ("/3/0/11", TEXT), ("/3/0/0", OCTETS), ("/33050", "application/xml")):
            self.assertRaises(NotAcceptable, self.get, path, accept)

    def test_discover(self) -> None:
        """Discover gives the instances and their resources, not their values."""
        whole = self.get("/33050", LINK_FORMAT).payload.decode().split(",")
        self.assertEqual((whole[:3], len(whole)), (["</33050>", "</33050/0>", "</33050/0/0>"], 15))
        self.assertEqual(self.get("/3/0/0", LINK_FORMAT).payload, b"</3/0/0>")

    def test_rights(self) -> None:
        """Only the server that the client is registered at may read; nothing can be written; a group is not answered."""
        self.assertRaises(Unauthenticated, self.objects.handle, ask(Method.GET, "/33050", principal=NOBODY))
        other = Principal("other", frozenset({Right.DISCOVER}))
        self.assertRaises(Forbidden, self.objects.handle, ask(Method.GET, "/33050", principal=other))
        for method in (Method.PUT, Method.DELETE, Method.POST):
            self.assertRaises(MethodNotAllowed, self.objects.handle, ask(method, "/33050/0"))
        self.assertIsNone(self.objects.handle(ask(Method.GET, "/33050", multicast=Multicast("ff02::fd", 1))))

    def test_update_trigger(self) -> None:
        """Execute of the Registration Update Trigger has the client update."""
        renewed: list[bool] = []
        self.objects.renew = lambda: renewed.append(True)
        self.answer(ask(Method.POST, "/1/0/8"))
        self.assertEqual(renewed, [True])

    def test_observe(self) -> None:
        """The object and its parts can be observed until that is stopped; what does not change cannot."""
        told: list[str] = []
        self.assertIsNone(self.objects.watch(("3", "0"), lambda *, periods=False: None, subtree=False))
        watch = self.objects.watch(("33050",), lambda *, periods=False: told.append("object"), subtree=False)
        one = self.objects.watch(("33050", "0"), lambda *, periods=False: told.append("instance"), subtree=False)
        self.objects.changed()
        if watch is not None and one is not None:
            watch.stop()
            watch.stop()
        self.objects.changed()
        self.assertEqual(told, ["object", "instance", "instance"])

    def test_write_attributes(self) -> None:
        """Periods are written at the object and what is in it, shown by Discover, taken back, and gone with their instance."""
        for path, query in (("/33050", {"pmin": "10"}), ("/33050/1", {"pmin": "0", "pmax": "60"}), ("/33050/1/0", {"pmin": "3"})):
            self.answer(ask(Method.PUT, path, query=tuple(query.items())))
        self.answer(ask(Method.PUT, "/33050/1/0", query=(("pmin", ""),)))
        links = self.get("/33050", LINK_FORMAT).payload.decode()
        self.assertEqual(re.findall(r"<([^>]*)>;([^,]*)", links), [("/33050", "pmin=10"), ("/33050/1", "pmin=0;pmax=60")])
        self.assertEqual(self.objects.periods(("33050", "1", "0")), Periods(0, 60))
        self.assertEqual(self.objects.periods(("33050", "0")), Periods(10))
        self.devices.drop(("leases", "1"))
        self.objects.changed()
        self.assertEqual(self.objects.periods(("33050", "1")), Periods(10))
        self.objects.served_by_another()
        self.assertEqual(self.objects.periods(("33050", "1")), Periods())

    def test_bad_attributes(self) -> None:
        """What is no attribute, no number, or at what is not there is refused, changing nothing; so are a write of values, and too many."""
        for query in (
            (("gt", "1"),),
            (("pmin", "-1"),),
            (("pmin", "1"), ("pmax", "x")),
            (("pmax", "0" * 5000),),
            (("pmin", "4294967296"),),
        ):
            self.assertRaises(Malformed, self.objects.handle, ask(Method.PUT, "/33050", query=query))
        self.assertRaises(NoSuchResource, self.objects.handle, ask(Method.PUT, "/33050/7", query=(("pmin", "1"),)))
        for path, payload in (("/33050/0", b"x"), ("/3/0", b"")):
            self.assertRaises(MethodNotAllowed, self.objects.handle, ask(Method.PUT, path, payload, query=(("pmin", "1"),)))
        self.assertEqual(self.objects.periods(("33050",)), Periods())
        attributes = Attributes()
        for number in range(MAX_PLACES):
            attributes.write((33050, number), (("pmin", "1"),))
        self.assertRaises(TooLarge, attributes.write, (33050, MAX_PLACES), (("pmin", "1"),))

    def test_what_was_read(self) -> None:
        """Whoever wants to know is told what the server has read of the object, and not of what it discovered."""
        read: list[int | None] = []
        self.objects.on_read = read.append
        for path in ("/33050", "/33050/1", "/33050/1/0", "/3/0"):
            self.get(path)
        self.get("/33050", LINK_FORMAT)
        self.assertEqual(read, [None, 1, 1])
