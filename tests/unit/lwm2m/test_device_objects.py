"""`lwm2m.device_objects`: what servers may read of a device, and have it do."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import LINK_FORMAT, SENML_JSON
from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.device_objects import BOOTSTRAP, UPDATE, instances, links, read, trigger
from m2mapp.lwm2m.held import ToldServer
from m2mapp.lwm2m.objects import TLV
from m2mapp.lwm2m.plans import Security
from m2mapp.model.errors import Forbidden, MethodNotAllowed, NoSuchResource
from m2mapp.model.messages import Method, Request

_FOUND = instances("d1", "1.0", (ToldServer(7, parse_uri("coap://[fd00::5]"), Security.NONE, 300),))


def _get(*path: str, accept: tuple[str, ...] = ()) -> bytes:
    return read(Request(Method.GET, path, accept=accept), _FOUND).payload


class ObjectsTests(SynchronousTestCase):
    def test_links(self) -> None:
        """A registration names the root, the instances, and the node's own resources."""
        own = '</>;rt="oma.lwm2m";ct="11542 110 112",</1/1>,</3/0>'
        self.assertEqual((links(_FOUND, "</value>"), links(_FOUND, "")), (f"{own},</value>", own))

    def test_read(self) -> None:
        """An object, an instance, a resource; in TLV, in SenML, a resource as its own text too, or as the links of a Discover."""
        self.assertEqual(_get("3", "0", "2", accept=(TLV,)), b"\xc2\x02d1")
        self.assertEqual(_get("3", "0", "2", accept=(SENML_JSON,)), b'[{"bn":"/3/0/","n":"2","vs":"d1"}]')
        self.assertEqual((_get("3", "0", "2"), _get("1", "1", "1")), (b"d1", b"300"))
        self.assertEqual(_get("1", accept=(TLV,))[:3], b"\x08\x01\x0d")
        self.assertEqual(_get("3", "0", accept=(LINK_FORMAT,)), b"</3/0>,</3/0/0>,</3/0/1>,</3/0/2>,</3/0/3>,</3/0/11>,</3/0/16>")

    def test_refused(self) -> None:
        """Security is shown to nobody; what is not there is not found; nothing is written."""
        self.assertRaises(Forbidden, _get, "0", "1")
        for path in (("1", "2"), ("3", "0", "99"), ("3", "0", "2", "0"), ("1", "x")):
            self.assertRaises(NoSuchResource, _get, *path)
        self.assertRaises(MethodNotAllowed, read, Request(Method.PUT, ("3", "0")), _FOUND)

    def test_triggers(self) -> None:
        """Both triggers of Server are known, of an instance that is there."""
        self.assertEqual(
            [trigger(Request(Method.POST, ("1", "1", one)), _FOUND) for one in (UPDATE, BOOTSTRAP, "1")], [UPDATE, BOOTSTRAP, None]
        )
        self.assertIsNone(trigger(Request(Method.GET, ("1", "1", UPDATE)), _FOUND))
        self.assertRaises(NoSuchResource, trigger, Request(Method.POST, ("1", "9", UPDATE)), _FOUND)
