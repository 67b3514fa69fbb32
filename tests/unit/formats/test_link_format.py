"""CoRE link format: the examples of RFC 6690, what is refused, round trips, filters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.link_format import (
    MAX_ATTRIBUTES,
    MAX_LINKS,
    Link,
    format_links,
    is_attribute_name,
    matches,
    parse_links,
    target_of,
)
from m2mapp.model.errors import Fault, Malformed, TooLarge

SENSORS = '</sensors/temp>;rt="temperature-c";if="sensor",</sensors/light>;rt="light-lux";if="sensor"'
INDEX = (
    '</sensors>;ct=40;title="Sensor Index",</sensors/temp>;rt="temperature-c";if="sensor",</sensors/light>;rt="light-lux";if="sensor",'
    '<http://www.example.com/sensors/t123>;anchor="/sensors/temp";rel="describedby",</t>;anchor="/sensors/temp";rel="alternate"'
)
NAMES = st.from_regex(r"\A[!#$&+\-.^_`|~0-9a-z]{1,8}\*?\Z")
TARGETS = st.text(st.characters(min_codepoint=0x21, exclude_categories=["C", "Z"], exclude_characters='<>"'), max_size=12)
LINKS = st.lists(
    st.builds(Link, TARGETS, st.lists(st.tuples(NAMES, st.text(max_size=8)), max_size=4).map(tuple)),
    max_size=4,
)


class ParsingTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The examples of RFC 6690, section 5, mean what the text there says."""
        temp, light = parse_links(SENSORS)
        self.assertEqual(temp, Link("/sensors/temp", (("rt", "temperature-c"), ("if", "sensor"))))
        self.assertEqual(light.target, "/sensors/light")
        links = parse_links(INDEX)
        self.assertEqual([link.target for link in links][3:], ["http://www.example.com/sensors/t123", "/t"])
        self.assertEqual((links[0].get("ct"), links[0].get("title"), links[0].get("rt")), ("40", "Sensor Index", None))
        firmware = parse_links('</firmware/v2.1>;rt="firmware";sz=262144')
        self.assertEqual(firmware[0].get("sz"), "262144")

    def test_forms(self) -> None:
        """White space between parts, attributes without value, unquoted and escaped values, names in capitals."""
        (link,) = parse_links(' </a> ; RT=temp ;obs; title="a \\"b\\" \\\\ c, <d>;e" ;title*=UTF-8\'de\'x ; empty="" ')
        expected = (("rt", "temp"), ("obs", ""), ("title", 'a "b" \\ c, <d>;e'), ("title*", "UTF-8'de'x"), ("empty", ""))
        self.assertEqual(link, Link("/a", expected))
        self.assertEqual(parse_links("<>"), [Link("")])
        self.assertEqual([parse_links(text) for text in ("", " ", "\n")], [[], [], []])

    def test_words(self) -> None:
        """An attribute that is a list has words; one that is missing has none."""
        (link,) = parse_links('</a>;rt="core.rd  core.gp"')
        self.assertEqual((link.words("rt"), link.words("if")), (["core.rd", "core.gp"], []))

    def test_refused(self) -> None:
        """What is no link is refused, with the field named and only a part of the text shown."""
        for text in (
            "a",
            "<a",
            "</a>,",
            ",</a>",
            "</a></b>",
            "</a>;",
            "</a>;=x",
            '</a>;rt="x',
            "</a>;rt=x y",
            "</a b>",
            "<</a>>",
            "</a>;r\xe4=1",
            "</a>x" * 999,
        ):
            refused = self.assertRaises(Malformed, parse_links, text, "body")
            self.assertEqual(refused.field, "body", text)
            self.assertLess(len(refused.detail), 300)

    def test_too_many(self) -> None:
        """Links and attributes are limited in number."""
        self.assertEqual(len(parse_links(",".join(["</a>"] * MAX_LINKS))), MAX_LINKS)
        self.assertRaises(TooLarge, parse_links, ",".join(["</a>"] * (MAX_LINKS + 1)))
        self.assertEqual(len(parse_links("</a>" + ";x" * MAX_ATTRIBUTES)[0].attributes), MAX_ATTRIBUTES)
        self.assertRaises(TooLarge, parse_links, "</a>" + ";x" * (MAX_ATTRIBUTES + 1))
        self.assertRaises(Malformed, parse_links, "<" + "a" * 1025 + ">")

    @given(st.text(max_size=40) | st.text('<>;,="\\ arti/*', max_size=30))
    def test_any_text(self, text: str) -> None:
        """Any text is links that are the same after writing and reading them, or a fault."""
        try:
            links = parse_links(text)
        except Fault:
            return
        self.assertEqual(parse_links(format_links(links)), links)

    @given(LINKS)
    def test_round_trip(self, links: list[Link]) -> None:
        """Links are the same after writing and reading them, whatever their values."""
        self.assertEqual(parse_links(format_links(links)), links)


class FormattingTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Numbers stand without quotes, other values with them, no value without anything."""
        links = [Link("/a", (("ct", "40"), ("rt", "x"), ("obs", ""))), Link("/b", (("ct", "40 50"), ("title", 'a"b\\'), ("sz", "٣")))]
        self.assertEqual(format_links(links), '</a>;ct=40;rt="x";obs,</b>;ct="40 50";title="a\\"b\\\\";sz="٣"')
        self.assertEqual(format_links([]), "")

    def test_targets(self) -> None:
        """A path as a target is percent-encoded where RFC 3986 asks for it."""
        self.assertEqual(target_of(("a b", "ä", "x,y;z=1", "<>", "%2F", "?#")), "/a%20b/%C3%A4/x,y;z=1/%3C%3E/%252F/%3F%23")
        self.assertEqual(target_of(()), "/")

    def test_attribute_names(self) -> None:
        """Names are letters, digits and signs, with a star at the end at most."""
        for name in ("rt", "title*", "m2m.x", "x" * 64):
            self.assertTrue(is_attribute_name(name), name)
        for name in ("", "a b", "a=b", "a;b", 'a"', "ä", "*a", "a**", "x" * 65, "a\n"):
            self.assertFalse(is_attribute_name(name), name)


class FilterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.links = parse_links(INDEX + ',</both>;rt="light-lux core.s";obs;title="Core light"')

    def found(self, *query: tuple[str, str]) -> list[str]:
        return [link.target for link in self.links if matches(link, query)]

    def test_examples(self) -> None:
        """The filters of RFC 6690, section 4.1: a word of a list, a beginning, a target; nothing lets all through."""
        self.assertEqual(self.found(("rt", "light-lux")), ["/sensors/light", "/both"])
        self.assertEqual(self.found(("rt", "core.*")), ["/both"])
        self.assertEqual(self.found(("href", "/sensors*")), ["/sensors", "/sensors/temp", "/sensors/light"])
        self.assertEqual(self.found(("href", "/sensors")), ["/sensors"])
        self.assertEqual(self.found(("title", "Sensor Index")), ["/sensors"])
        self.assertEqual(len(self.found()), len(self.links))

    def test_words_and_wholes(self) -> None:
        """Attributes that are lists are compared by word; others as a whole."""
        self.assertEqual(self.found(("rt", "light-lux core.s")), [])
        self.assertEqual(self.found(("title", "Core")), [])
        self.assertEqual(self.found(("title", "Core*")), ["/both"])

    def test_presence(self) -> None:
        """A star alone asks whether the attribute is there; an attribute without value is found by its name."""
        self.assertEqual(self.found(("ct", "*")), ["/sensors"])
        self.assertEqual(self.found(("obs", "")), ["/both"])
        self.assertEqual(self.found(("nothing", "*")), [])

    def test_every_filter_has_to_hold(self) -> None:
        """Several filters let through what passes all of them."""
        self.assertEqual(self.found(("rt", "light-lux"), ("if", "sensor")), ["/sensors/light"])
        self.assertEqual(self.found(("rt", "light-lux"), ("rt", "core.s")), ["/both"])

    def test_encoded_targets(self) -> None:
        """A target is found as it is written, and as it reads without its percent-encoding."""
        link = Link("/a%20b")
        self.assertTrue(matches(link, [("href", "/a%20b")]))
        self.assertTrue(matches(link, [("href", "/a b")]))
        self.assertFalse(matches(link, [("href", "/a+b")]))
