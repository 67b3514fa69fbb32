"""`registry.rd`: what a registration says (RFC 9176, section 5)."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault, Malformed, TooLarge, UnsupportedMediaType
from m2mapp.model.messages import Method, Request
from m2mapp.registry import rd
from m2mapp.tree.unit import Document
from tests.unit.registry.parts import DEVICE, LINKS, register


def registered(query: str, payload: str = "", source: tuple[str, int] | None = DEVICE) -> Document:
    return rd.registration(register(query, payload, source)).document


class RegistrationTests(SynchronousTestCase):
    def test_example_of_the_specification(self) -> None:
        """The registration of spec section 2 gives name, lifetime, host and multicast, reached where it came from."""
        asked = rd.registration(register("ep=d1&lt=300&host=d1.example.org&multicast=1"))
        wanted = {
            "hosts": ["d1.example.org"],
            "addresses": ["fd00::d1"],
            "port": 5683,
            "scheme": "coap",
            "multicastEnabled": True,
            "lifetime": 300,
        }
        self.assertEqual((asked.name, {name: asked.document[name] for name in wanted}), ("d1", wanted))

    def test_defaults(self) -> None:
        """Only `ep` is needed: 25 hours (RFC 9176, section 5), no multicast, no links."""
        document = registered("ep=d1")
        self.assertEqual((document["lifetime"], document["multicastEnabled"], document["links"]), (90_000, False, []))

    def test_sector_is_part_of_the_name(self) -> None:
        """An endpoint in a sector is another registration than one of that name without."""
        self.assertEqual(rd.registration(register("ep=d1&d=floor2")).name, "d1@floor2")

    def test_base_with_an_address(self) -> None:
        """A base says where the device is, whoever registers it, also over HTTP."""
        for source in (DEVICE, None):
            document = registered("ep=d1&base=coaps://[FD00:0::99]:7000", source=source)
            self.assertEqual((document["addresses"], document["port"], document["scheme"]), (["fd00::99"], 7000, "coaps"))
        self.assertEqual(registered("ep=d1&base=coap://192.0.2.1")["port"], 5683)

    def test_base_with_a_name(self) -> None:
        """A base with a host name adds that host, and no address: the name says where the device is."""
        document = registered("ep=d1&host=lamp.example.org&base=http://D1.example.org")
        self.assertEqual((document["hosts"], document["addresses"]), (["lamp.example.org", "d1.example.org"], []))
        self.assertEqual((document["scheme"], document["port"]), ("http", 80))

    def test_link_local_base_takes_the_zone_it_was_heard_from(self) -> None:
        """A link-local base of the sender itself gets the zone of the interface."""
        document = registered("ep=d1&base=coap://[fe80::1]:7000", source=("fe80::1%eth1", 5683))
        self.assertEqual((document["addresses"], document["port"]), (["fe80::1%eth1"], 7000))

    def test_other_parameters_are_attributes(self) -> None:
        """What RFC 9176 and LwM2M add is kept, repeated parameters as a list."""
        document = registered("ep=d1&et=lamp&et=sensor&lwm2m=1.1&b=U&d=x&base=coap://[fd00::1]")
        self.assertEqual(document["attributes"], {"et": ["lamp", "sensor"], "lwm2m": "1.1", "b": "U", "d": "x", "base": "coap://[fd00::1]"})

    def test_links_are_kept_and_read(self) -> None:
        """Links are kept with their attributes; three kinds of them say more than where something is."""
        payload = '</temp>;rt="temperature core.s";if=sensor;ct=0,</mc%20g>;rt="m2m.mcgroups",</g>;rt=m2m.groups,</coap-group>;rt="core.gp"'
        document = registered("ep=d1", payload)
        self.assertEqual((document["mcGroups"], document["groupServer"]), ("/mc g", True))
        links = document["links"]
        assert isinstance(links, list)
        self.assertEqual(links[0], {"href": "/temp", "rt": "temperature core.s", "if": "sensor", "ct": "0"})
        self.assertEqual(links[3], {"href": "/coap-group", "rt": "core.gp"})

    def test_links_come_back_as_they_went_in(self) -> None:
        """The links of a registration in link format say what the payload said."""
        payload = '</temp>;rt="temperature core.s";ct=0,</a%20b>;title="x \\"y\\"";obs'
        self.assertEqual(rd.links_text(registered("ep=d1", payload)), payload)

    BAD: ClassVar[list[tuple[str, str]]] = [
        ("", "ep"),
        ("ep=", "ep"),
        ("ep=" + "x" * 64, "ep"),
        ("ep=a\nb", "ep"),
        ("ep=..", "ep"),
        ("ep=d1&ep=d2", "ep"),
        ("ep=d1&d=", "d"),
        ("ep=d1&lt=0", "lt"),
        ("ep=d1&lt=4294967296", "lt"),
        ("ep=d1&lt=-5", "lt"),
        ("ep=d1&lt=5.0", "lt"),
        ("ep=d1&lt=\u0665", "lt"),
        ("ep=d1&lt=" + "9" * 5000, "lt"),
        ("ep=d1&base=ftp://x", "base"),
        ("ep=d1&base=coap://[fd00::1]/path", "base"),
        ("ep=d1&base=coap://[ff02::1]", "base"),
        ("ep=d1&base=coap://d1_!", "base"),
        ("ep=d1&base=coap://[fd00::1", "base"),
        ("ep=d1&base=", "base"),
        ("ep=d1&host=a b", "host"),
        ("ep=d1&multicast=perhaps", "multicast"),
        ("ep=d1&a b=c", "attributes"),
        ("ep=d1&et=" + "x" * 256, "attributes.et"),
        ("ep=d1&" + "&".join(f"a{number}=" for number in range(33)), "attributes"),
    ]

    def test_bad_parameters_are_named(self) -> None:
        """Each bad parameter is refused with an error that names it."""
        for query, field in self.BAD:
            error = self.assertRaises(Malformed, registered, query)
            self.assertEqual(error.field, field, f"{query[:40]}: {error}")

    def test_http_needs_a_base(self) -> None:
        """Over HTTP nothing tells where the device is, so a request without base is refused by that name."""
        self.assertEqual(self.assertRaises(Malformed, registered, "ep=d1", source=None).field, "base")

    def test_bad_payloads(self) -> None:
        """A payload that is no link format, in another type, or too large is refused."""
        for payload in ("temp", "</a>;;", "</a> </b>", '</a>;rt="m2m.mcgroups",', '</a>;href="/b"'):
            self.assertEqual(self.assertRaises(Malformed, registered, "ep=d1", payload).field, "body", payload)
        self.assertEqual(self.assertRaises(Malformed, registered, "ep=d1", '</%ff>;rt="m2m.mcgroups"').field, "body")

    def test_advertisements_by_http(self) -> None:
        """A device may take its advertisements at another URI of its own; at nobody else's."""
        place = "http://d1.example.org:8080/mc"
        self.assertEqual(registered("ep=d1&host=d1.example.org", f'<{place}>;rt="m2m.mcgroups"')["mcGroups"], place)
        fault = self.assertRaises(Malformed, registered, "ep=d1", f'<{place}>;rt="m2m.mcgroups"')
        self.assertEqual(fault.field, "mcGroups")
        self.assertRaises(TooLarge, registered, "ep=d1", "</" + "a" * 9000 + ">")
        self.assertRaises(TooLarge, registered, "ep=d1", ",".join(["<>"] * 1001))
        raw = Request(Method.POST, ("rd",), (("ep", "d1"),), b"</\xff>", LINKS, source=DEVICE)
        self.assertEqual(self.assertRaises(Malformed, rd.registration, raw).field, "body")
        for content_type in (None, "application/json"):
            untyped = Request(Method.POST, ("rd",), (("ep", "d1"),), b"</a>", content_type, source=DEVICE)
            self.assertRaises(UnsupportedMediaType, rd.registration, untyped)

    @given(
        st.lists(st.tuples(st.sampled_from(["ep", "d", "lt", "base", "host", "multicast", "et", "x"]) | st.text(), st.text()), max_size=8),
        st.binary(max_size=60) | st.text('</>;,="\\ab', max_size=60).map(str.encode),
    )
    def test_anything_registers_or_is_refused(self, query: list[tuple[str, str]], payload: bytes) -> None:
        """Any query and payload give a registration or a fault, and nothing else is raised."""
        request = Request(Method.POST, ("rd",), tuple(query), payload, LINKS, source=DEVICE)
        try:
            asked = rd.registration(request)
        except Fault:
            return
        self.assertTrue(asked.name)
        rd.links_text(asked.document)


class UpdateTests(SynchronousTestCase):
    def updated(self, first: str, then: str, payload: str = "", source: tuple[str, int] | None = DEVICE) -> Document:
        asked = rd.registration(register(first, '</temp>;rt="temperature"'))
        return rd.update(asked.name, asked.document, register(then, payload, source, f"/rd/{asked.name}"))

    def test_nothing_said_changes_nothing(self) -> None:
        """An update without parameters from the same address leaves the document as it is."""
        query = "ep=d1&d=x&lt=300&host=d1.example.org&multicast=1&et=lamp&et=led"
        self.assertEqual(self.updated(query, ""), registered(query, '</temp>;rt="temperature"'))
        self.assertEqual(self.updated(query, "ep=d1&d=x"), registered(query, '</temp>;rt="temperature"'))

    def test_what_is_said_replaces(self) -> None:
        """Lifetime, hosts, multicast, attributes and links are replaced where they are given, and stay where not."""
        document = self.updated("ep=d1&et=lamp&x=1&host=old", "lt=60&host=new&multicast=1&et=led", "</b>")
        self.assertEqual((document["lifetime"], document["hosts"], document["multicastEnabled"]), (60, ["new"], True))
        self.assertEqual((document["attributes"], document["links"]), ({"et": "led", "x": "1"}, [{"href": "/b"}]))

    def test_new_source_address_is_followed(self) -> None:
        """Without an explicit base the device is reached where it was last heard from (RFC 9176, section 5.3.1)."""
        document = self.updated("ep=d1", "", source=("fd00::e1", 6000))
        self.assertEqual((document["addresses"], document["port"]), (["fd00::e1"], 6000))

    def test_explicit_base_stays(self) -> None:
        """With an explicit base another source changes nothing, and a new base replaces the old one with its host."""
        first = "ep=d1&host=lamp&base=coap://old.example.org"
        self.assertEqual(self.updated(first, "", source=("fd00::e1", 6000))["hosts"], ["lamp", "old.example.org"])
        self.assertEqual(self.updated(first, "host=new")["hosts"], ["new", "old.example.org"])
        moved = self.updated(first, "base=coap://[fd00::9]:7000")
        self.assertEqual((moved["hosts"], moved["addresses"], moved["port"]), (["lamp"], ["fd00::9"], 7000))

    def test_update_over_http_keeps_the_address(self) -> None:
        """An update over HTTP, which has no source, leaves the device where it is."""
        self.assertEqual(self.updated("ep=d1", "lt=60", source=None)["addresses"], ["fd00::d1"])

    def test_update_does_not_rename(self) -> None:
        """Another endpoint name or sector is refused by its name."""
        for then, field in (("ep=d2", "ep"), ("d=y", "d"), ("ep=d1&d=y", "ep"), ("lt=x", "lt")):
            self.assertEqual(self.assertRaises(Malformed, self.updated, "ep=d1", then).field, field)
