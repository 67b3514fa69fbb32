"""Members to pick among what devices registered."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.picking import SHOWN, Found, find
from m2mapp.registry.scl import check
from m2mapp.tree.registrations import SCL, device_of
from m2mapp.tree.unit import Resource


def registered(name: str, **given: object) -> Resource:
    """The registration of a device."""
    return Resource(("scls", name), SCL, check(name, given), None, None, 0, 0, 1)


def found(*devices: Resource, text: str = "", path: str = "", after: str = "") -> Found:
    """What is found among these devices."""
    return find(devices, device_of, text, path, after)


class FindTests(SynchronousTestCase):
    def test_uris(self) -> None:
        """A device is named by its first host, else its address, else its name; its port stands where it is not the scheme's."""
        link = [{"href": "/t?a=b"}]
        for given, expected in (
            ({"hosts": ["D1.example.org"], "addresses": ["fd00::1"]}, "coap://d1.example.org/t?a=b"),
            ({"addresses": ["fd00::1"], "port": 61616}, "coap://[fd00::1]:61616/t?a=b"),
            ({"scheme": "http"}, "http://d1/t?a=b"),
        ):
            self.assertEqual(found(registered("d1", links=link, **given)).uris, (expected,))

    def test_links(self) -> None:
        """Only what can be a member is offered: no reference elsewhere, not where a device is told its groups."""
        links = [{"href": "http://x/y"}, {"href": "/m", "rt": "x m2m.mcgroups"}, {"href": "/g", "rt": "core.gp"}, {"href": "/a/../b"}]
        self.assertEqual(found(registered("d1", links=[*links, {"href": "/ok", "rt": ["a", "b"]}])).uris, ("coap://d1/ok",))

    def test_words(self) -> None:
        """A device that is found has all it registered; else what is found by its path or type."""
        devices = [registered(name, links=[{"href": "/t", "rt": "Heat"}, {"href": "/l"}]) for name in ("d1", "d2")]
        self.assertEqual(found(*devices, text=" D2").uris, ("coap://d2/t", "coap://d2/l"))
        self.assertEqual(found(*devices, text="heat").uris, ("coap://d1/t", "coap://d2/t"))
        self.assertEqual(found(*devices, text="d1", path="/x").uris, ("coap://d1/x",))
        self.assertEqual(found(*devices, text="none").count, 0)

    def test_parts(self) -> None:
        """Many are shown in parts; all are counted, and can be had at once."""
        many = [registered(f"d{number:03}", links=[{"href": "/t"}]) for number in range(SHOWN + 10)]
        first = found(*many)
        self.assertEqual((len(first.shown), first.count, len(first.uris)), (SHOWN, SHOWN + 10, SHOWN + 10))
        rest = found(*many, after=first.next)
        self.assertEqual(({one.uri for one in first.shown} | {one.uri for one in rest.shown}, rest.next), (set(first.uris), ""))
