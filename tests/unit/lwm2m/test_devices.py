"""`lwm2m.devices`: leases as instances of object 33050, in each format, with numbers that stay; the definition agrees."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats import senml
from m2mapp.formats.documents import SENML_CBOR, SENML_JSON
from m2mapp.lwm2m import devices
from m2mapp.lwm2m.devices import OBJECT, RESOURCES, DeviceObject, resources_of
from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.tlv import Kind, decode, parse
from m2mapp.model.errors import Malformed, NoSuchResource, Overloaded

_DEFINITION = Path(__file__).resolve().parents[3] / "etc" / "lwm2m-33050.xml"
LEASE = {
    "duid": "00030001aabbccddeeff",
    "iaid": 0xFFFFFFFF,
    "address": "fd00::d1",
    "givenAt": "2027-01-15T08:00:00.500Z",
    "validUntil": "2027-01-15T10:00:00.000Z",
    "bootstrapURI": "coaps://bs.example.org",
    "state": "bound",
}
VALUES = ("fd00::d1", bytes.fromhex(LEASE["duid"]), 1_800_000_000, 1_800_007_200, "coaps://bs.example.org", 0xFFFFFFFF)  # type: ignore[arg-type]


def _path(number: int) -> tuple[str, ...]:
    return ("leases", f"{number:02x}", "1")


class LeaseTests(SynchronousTestCase):
    def test_resources(self) -> None:
        """A lease has six resources, and those of later steps once these were seen; what it does not know is left out."""
        self.assertEqual(resources_of(LEASE), dict(enumerate(VALUES)))
        later = {"endpoint": "dev-one", "registeredAt": "2027-01-15T08:01:00.000Z", "inGroupsAt": None}
        self.assertEqual(resources_of({**LEASE, **later}), {**dict(enumerate(VALUES)), 6: "dev-one", 7: 1_800_000_060})
        self.assertEqual(list(resources_of({**LEASE, "validUntil": None, "bootstrapURI": None})), [0, 1, 2, 5])
        self.assertRaises(Malformed, resources_of, {**LEASE, "duid": "x"})
        self.assertRaises(Malformed, resources_of, {**LEASE, "givenAt": "yesterday"})

    def test_definition(self) -> None:
        """The definition in OMA's form has the numbers, names and types that are served."""
        defined = ElementTree.parse(_DEFINITION).getroot()  # noqa: S314 - our own file
        self.assertEqual(defined.findtext("Object/ObjectID"), str(OBJECT))
        items = {int(item.get("ID", "")): (item.findtext("Name"), item.findtext("Type")) for item in defined.iter("Item")}
        self.assertEqual(items, {number: (name, kind.value) for number, (name, kind) in RESOURCES.items()})


class ObjectTests(SynchronousTestCase):
    def test_read(self) -> None:
        """The object, an instance and a resource are read in TLV and SenML; what is not there is told."""
        held = DeviceObject()
        held.put(_path(1), LEASE)
        held.put(_path(2), {**LEASE, "address": "fd00::d2"})
        first, second = parse(held.read(TLV))
        self.assertEqual([(each.kind, each.identifier) for each in (first, second)], [(Kind.OBJECT_INSTANCE, 0), (Kind.OBJECT_INSTANCE, 1)])
        read = [decode(each.value, RESOURCES[each.identifier][1]) for each in parse(held.read(TLV, 0)) if isinstance(each.value, bytes)]
        self.assertEqual(tuple(read), VALUES)
        self.assertEqual(held.read(TLV, 1, 0), b"\xc8\x00\x08fd00::d2")
        for media_type in (SENML_JSON, SENML_CBOR):
            records = senml.parse(held.read(media_type), media_type)
            self.assertEqual([record.value for record in records[:6]], list(VALUES))
            self.assertEqual((records[6].name, records[6].value), ("/33050/1/0", "fd00::d2"))
            self.assertEqual(senml.parse(held.read(media_type, 1, 0), media_type)[0].name, "/33050/1/0")
        for where in ((2, None), (0, 9)):
            self.assertRaises(NoSuchResource, held.read, TLV, *where)

    def test_empty(self) -> None:
        """Without leases the object is there and has no instances."""
        self.assertEqual([DeviceObject().read(media_type) for media_type in (TLV, SENML_JSON, SENML_CBOR)], [b"", b"[]", b"\x80"])

    def test_numbers(self) -> None:
        """A lease keeps its number while it is there; the least of those that are free is given; there are so many and no more."""
        held = DeviceObject()
        self.assertEqual([held.put(_path(each), LEASE) for each in (1, 2, 3, 2)], [0, 1, 2, 1])
        for each in (3, 1, 1):
            held.drop(_path(each))
        self.assertEqual([held.put(_path(each), LEASE) for each in (4, 5, 6)], [0, 2, 3])
        self.patch(devices, "MAX_INSTANCES", 4)
        self.assertRaises(Overloaded, held.put, _path(7), LEASE)
        held.put(_path(6), LEASE)
