"""SenML packs: the examples of RFC 8428, what is refused, and the way there and back."""

from __future__ import annotations

import contextlib
import json

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import SENML_CBOR, SENML_JSON, dump_json
from m2mapp.formats.senml import LABELS, Record, build, is_senml, name_of, parse
from m2mapp.model.errors import Malformed, UnsupportedMediaType

NUMBERS = {name: number for number, name in LABELS.items()}
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,20}", fullmatch=True)
TIMES = st.one_of(st.integers(-1000, 1 << 33), st.floats(-1000, 2**33))
FIGURES = st.one_of(st.integers(-(1 << 53), 1 << 53), st.floats(allow_nan=False, allow_infinity=False))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(FIGURES, TEXTS, st.booleans(), st.binary(max_size=20))
RECORDS = st.builds(
    Record, NAMES, VALUES, st.one_of(st.none(), TEXTS), TIMES, st.one_of(st.none(), FIGURES), st.one_of(st.none(), st.integers(0, 100))
)


def from_json(pack: object) -> tuple[Record, ...]:
    """The records of a pack that is written as JSON."""
    return parse(dump_json(pack), SENML_JSON)


class ParseTests(SynchronousTestCase):
    def test_multiple_data_points(self) -> None:
        """RFC 8428, section 5.1.2: base name, base time, base unit; the second record has a unit of its own."""
        records = from_json(
            [
                {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
                {"n": "current", "t": -5, "v": 1.2},
                {"n": "current", "t": -4, "v": 1.3},
            ]
        )
        self.assertEqual(
            records,
            (
                Record("urn:dev:ow:10e2073a0108006:voltage", 120.1, "V", 1.276020076001e09),
                Record("urn:dev:ow:10e2073a0108006:current", 1.2, "A", 1.276020071001e09),
                Record("urn:dev:ow:10e2073a0108006:current", 1.3, "A", 1.276020072001e09),
            ),
        )

    def test_different_sorts(self) -> None:
        """RFC 8428, section 5.1.6: a number, text, a truth, data; the same in CBOR with numbers for labels, where data is bytes."""
        pack: list[dict[str, object]] = [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "temp", "u": "Cel", "v": 23.1},
            {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False},
            {"n": "nfc-reader", "vd": "aGkgCg"},
        ]
        found = from_json(pack)
        self.assertEqual([record.value for record in found], [23.1, "Machine Room", False, b"hi \n"])
        self.assertEqual([record.number for record in found], [23.1, None, None, None])
        pack[3]["vd"] = b"hi \n"
        coded = cbor2.dumps([{NUMBERS[name]: value for name, value in item.items()} for item in pack])
        self.assertEqual(parse(coded, SENML_CBOR), found)

    def test_bootstrap(self) -> None:
        """A Security object as a foreign LwM2M server writes it: its names begin with a slash, which RFC 8428 does not have."""
        pack = [{"bn": "/0/1/", "n": "0", "vs": "coap://[::1]:5783"}, {"n": "1", "vb": False}, {"n": "2", "v": 3}]
        self.assertEqual(
            [(record.name, record.value) for record in from_json(pack)], [("/0/1/0", "coap://[::1]:5783"), ("/0/1/1", False), ("/0/1/2", 3)]
        )

    def test_base_value_and_sum(self) -> None:
        """A base value is added to numbers alone, a base sum to sums; one that stands alone is the value (RFC 8428, section 4.1)."""
        found = from_json([{"n": "a", "bv": 20, "v": 1.5}, {"n": "b", "vs": "x"}, {"n": "c", "bv": 7}, {"n": "d", "bs": 10, "s": 3}])
        self.assertEqual([(one.value, one.sum) for one in found], [(21.5, None), ("x", None), (7, None), (None, 13)])

    def test_times(self) -> None:
        """A time under 2^28 counts from now, a greater one is a date (RFC 8428, section 4.5.3)."""
        now_ms = 1_800_000_000_000
        found = from_json([{"n": "a", "v": 1}, {"n": "a", "t": -2.5, "v": 1}, {"n": "a", "t": 1_700_000_000, "v": 1}])
        self.assertEqual([record.at_ms(now_ms) for record in found], [now_ms, now_ms - 2500, 1_700_000_000_000])

    def test_unknown_fields(self) -> None:
        """A field that is not known is ignored, unless its name ends with an underscore (RFC 8428, section 4.4)."""
        self.assertEqual(from_json([{"n": "a", "v": 1, "color": "red"}]), (Record("a", 1),))
        self.assertEqual(parse(cbor2.dumps([{0: "a", 2: 1, 99: "?"}]), SENML_CBOR), (Record("a", 1),))
        with self.assertRaisesRegex(Malformed, r"body\[0\].color_: .* must be understood"):
            from_json([{"n": "a", "v": 1, "color_": "red"}])

    def test_refused(self) -> None:
        """What is no pack is refused with the record and the field that are wrong."""
        for pack, where in (
            ({}, "body"),
            ([], "body"),
            ([1], r"body\[0\]"),
            ([{"n": "a", "v": 1}, {"n": "b"}], r"body\[1\]"),
            ([{"n": "a", "v": 1, "vs": "x"}], r"body\[0\]"),
            ([{"n": "a", "v": True}], r"body\[0\].v"),
            ([{"n": "a", "v": "1"}], r"body\[0\].v"),
            ([{"n": "a", "vb": 1}], r"body\[0\].vb"),
            ([{"n": "a", "vd": "!"}], r"body\[0\].vd"),
            ([{"n": 5, "v": 1}], r"body\[0\].n"),
            ([{"n": "a b", "v": 1}], r"body\[0\].n"),
            ([{"v": 1}], r"body\[0\].n"),
            ([{"n": "-a", "v": 1}], r"body\[0\].n"),
            ([{"n": "a", "v": 1, "bver": 11}], r"body\[0\].bver"),
            ([{"n": "a", "bv": 1e308, "v": 1e308}], r"body\[0\].v"),
            ([{"n": "a", "bt": 1e308, "t": 1e308, "v": 1}], r"body\[0\].t"),
        ):
            with self.assertRaisesRegex(Malformed, f"^{where}: "):
                from_json(pack)
        self.assertRaises(Malformed, parse, cbor2.dumps([{0: "a", "n": "b", 2: 1}]), SENML_CBOR)
        self.assertRaises(UnsupportedMediaType, parse, b"[]", "application/json")

    @given(st.binary(max_size=60))
    def test_any_bytes(self, payload: bytes) -> None:
        """Any bytes are a pack or `Malformed`."""
        for media_type in (SENML_JSON, SENML_CBOR):
            with contextlib.suppress(Malformed):
                self.assertTrue(parse(payload, media_type))


class BuildTests(SynchronousTestCase):
    @given(st.lists(RECORDS, min_size=1, max_size=5), st.sampled_from([SENML_JSON, SENML_CBOR]))
    def test_there_and_back(self, records: list[Record], media_type: str) -> None:
        """What was built is read as it was."""
        self.assertEqual(parse(build(records, media_type), media_type), tuple(records))

    def test_base_name(self) -> None:
        """A name that all begin with is written once, in the first record; a record may have no more of a name than that."""
        records = [Record("/0/1/", 1), Record("/0/1/2", b"\xff")]
        self.assertEqual(json.loads(build(records, SENML_JSON, "/0/1/")), [{"bn": "/0/1/", "v": 1}, {"n": "2", "vd": "_w"}])
        self.assertEqual(cbor2.loads(build(records, SENML_CBOR, "/0/1/")), [{-2: "/0/1/", 2: 1}, {0: "2", 8: b"\xff"}])

    def test_refused(self) -> None:
        """What no pack can hold is refused."""
        for records in ([], [Record("a b", 1)], [Record("a")]):
            self.assertRaises(Malformed, build, records, SENML_JSON)
        self.assertRaises(Malformed, build, [Record("a", 1)], SENML_JSON, "b")
        self.assertRaises(UnsupportedMediaType, build, [Record("a", 1)], "text/plain")

    def test_names(self) -> None:
        """A URI as a name: brackets go, what a name cannot have is an underscore."""
        self.assertEqual(name_of("coap://[fd00::d1]:5684/a b?x=1"), "coap://fd00::d1:5684/a_b_x_1")
        self.assertEqual(name_of("-a"), "x-a")
        self.assertTrue(is_senml(SENML_CBOR + ";x=1"))
        self.assertFalse(is_senml("application/json"))
