"""`lwm2m.gateways`: whatever a gateway says is a report or a fault; what is read again is what changed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import dump_json
from m2mapp.lwm2m.devices import DeviceObject
from m2mapp.lwm2m.gateways import ObjectReader, check_report
from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.tlv import Entry, Kind, build, encode
from m2mapp.model.errors import Malformed
from m2mapp.tree.unit import Document
from tests.unit.lwm2m.reporting import duid, lease

_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_LEASE = some.fixed_dictionaries({"iaid": _JSON, "address": _JSON}, optional={"givenAt": _JSON, "validUntil": _JSON, "bootstrapURI": _JSON})
_REPORT = some.fixed_dictionaries(
    {"leases": some.lists(_LEASE | _JSON, max_size=3)}, optional={"steps": _JSON, "groups": _JSON, "ended": _JSON}
)
_RESOURCES = some.lists(some.tuples(some.integers(0, 9), some.binary(max_size=24)), max_size=10)


def read(reader: ObjectReader, data: bytes) -> tuple[dict[str, Document | None], bool]:
    """What is new in an answer."""
    found = [each for each in reader.read(data) if each is not None][-1]
    return dict(found.reports), found.whole


class HostileTests(SynchronousTestCase):
    @given(_JSON | _REPORT)
    def test_documents(self, document: object) -> None:
        """Any document is a report, which can be kept, or is `Malformed`."""
        try:
            kept = check_report(duid(1), document)
        except Malformed:
            return
        self.assertEqual(check_report(duid(1), json.loads(dump_json(kept))), kept)

    @given(some.binary(max_size=200))
    def test_bytes(self, data: bytes) -> None:
        """Any bytes are an answer, whole to its end, or `Malformed`."""
        reader = ObjectReader()
        try:
            first = read(reader, data)
        except Malformed:
            return
        self.assertTrue(first[1])
        self.assertEqual(read(reader, data), ({}, False))

    @given(some.lists(_RESOURCES, max_size=4))
    def test_instances(self, instances: list[list[tuple[int, bytes]]]) -> None:
        """Instances with any values are reports that can be kept, or are told as faults."""
        entries = (
            Entry(Kind.OBJECT_INSTANCE, number, tuple(Entry(Kind.RESOURCE, *each) for each in resources))
            for number, resources in enumerate(instances)
        )
        reports, _ = read(ObjectReader(), build(entries))
        for name, report in reports.items():
            self.assertEqual(check_report(name, report), report)


class ReaderTests(SynchronousTestCase):
    def test_changes(self) -> None:
        """The first answer is all; later ones say what is new, another, or gone; after `forget` all is new."""
        reader, devices = ObjectReader(), DeviceObject()
        for number in range(3):
            devices.put(("leases", str(number)), lease(number).attributes)
        reports, whole = read(reader, devices.read(TLV))
        self.assertEqual((sorted(reports), whole), ([duid(number) for number in range(3)], True))
        devices.drop(("leases", "0"))
        devices.put(("leases", "1"), lease(1, validUntil=None).attributes)
        reports, whole = read(reader, devices.read(TLV))
        self.assertEqual((list(reports), reports[duid(0)], whole), ([duid(0), duid(1)], None, False))
        reader.forget()
        self.assertEqual(len(read(reader, devices.read(TLV))[0]), 2)

    def test_times(self) -> None:
        """A time that no calendar has is a fault of its instance."""
        values = {0: b"fd00::1", 1: b"\x01", 2: encode(1 << 62)}
        entry = Entry(Kind.OBJECT_INSTANCE, 0, tuple(Entry(Kind.RESOURCE, number, value) for number, value in values.items()))
        found = next(each for each in ObjectReader().read(build([entry])) if each is not None)
        self.assertEqual((found.reports, len(found.faults)), ({}, 1))
