"""The representations of a joined answer, and the lines of one that is sent while it comes."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.formats.documents import CBOR, JSON, NDJSON, RESULTS_CBOR, RESULTS_JSON, SENML_CBOR, SENML_JSON, load_cbor
from m2mapp.formats.senml import Record, build, parse
from m2mapp.groups.forms import for_members, read_wanted
from m2mapp.groups.lines import Lines
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.model.errors import NotAcceptable
from m2mapp.model.interfaces import IStream
from m2mapp.model.messages import Method, Request, Response, Status
from tests.unit.fakes import START_MS
from tests.unit.groups.parts import uri_at


def value(content: bytes, media_type: str | None = "text/plain", status: str = "2.05") -> MemberResult:
    """What a member answered after 20 ms."""
    return MemberResult(status, content, media_type, "multicast", 20.0)


def results(*members: MemberResult, silent: tuple[str, ...] = ()) -> GroupResults:
    """The results of members d1, d2..."""
    answered = {uri_at(number): member for number, member in enumerate(members, 1)}
    return GroupResults("g", b"12345678", "ab" * 16, answered, silent, 1, len(answered), 20.0)


def respond(found: GroupResults, *accept: str, method: Method = Method.GET, **request: object) -> Response:
    """The response to who accepts that."""
    asked = Request(method, ("groups", "g", "membersContent"), accept=accept, **request)  # type: ignore[arg-type]
    return read_wanted(asked).respond(found, START_MS)


class DocumentTests(SynchronousTestCase):
    def test_json_and_cbor(self) -> None:
        """The same document in JSON and CBOR, by what is accepted; it is not to be cached."""
        found = results(value(b"21.5"))
        for accept, media_type in (((), RESULTS_JSON), ((RESULTS_CBOR,), RESULTS_CBOR), ((CBOR,), CBOR), ((JSON,), JSON)):
            response = respond(found, *accept)
            self.assertEqual((response.status, response.content_type, response.max_age_s), (Status.CONTENT, media_type, 0))
            document = load_cbor(response.payload) if media_type.endswith("cbor") else json.loads(response.payload)
            self.assertEqual(document, found.document())

    def test_over_coap(self) -> None:
        """A CoAP caller that accepts anything gets CBOR, which takes fewer blocks; what it asks for otherwise."""
        source = ("fd00::9", 5683)
        self.assertEqual(respond(results(value(b"1")), source=source).content_type, RESULTS_CBOR)
        self.assertEqual(respond(results(value(b"1")), RESULTS_JSON, source=source).content_type, RESULTS_JSON)

    def test_a_write(self) -> None:
        """A write's joined answer is 2.04 with the same document; it cannot be SenML, and says so before anything is done."""
        self.assertEqual(respond(results(value(b"1")), method=Method.PUT).status, Status.CHANGED)
        self.assertRaises(NotAcceptable, respond, results(value(b"1")), SENML_JSON, method=Method.PUT)

    def test_not_acceptable(self) -> None:
        """What is not offered is refused."""
        self.assertRaises(NotAcceptable, respond, results(value(b"1")), "text/html")

    def test_a_figure(self) -> None:
        """A figure of all stands in the document; the keys that ask for it are not the members'."""
        query = (("aggregate", "max"), ("u", "C"))
        shown = json.loads(respond(results(value(b"1"), value(b"2"), silent=("coap://x/",)), query=query).payload)
        self.assertEqual(shown["aggregate"], {"function": "max", "value": 2, "of": 2, "without": ["coap://x/"]})
        self.assertEqual(for_members((*query, ("rule", "changed"))), (("u", "C"),))
        self.assertRaises(NotAcceptable, respond, results(value(b"1")), SENML_JSON, query=query)

    def test_a_truth(self) -> None:
        """A truth of all stands in the document and in the summary of lines."""
        query = (("aggregate", "any"), ("rule", "value>1"))
        shown = json.loads(respond(results(value(b"1"), value(b"2")), query=query).payload)
        expected = {"function": "any", "rule": "value > 1", "value": True, "of": 2, "without": [], "why": {}}
        self.assertEqual(shown["aggregate"], expected)
        lines = respond(results(value(b"1"), value(b"2")), NDJSON, query=query).payload.splitlines()
        self.assertEqual(json.loads(lines[-1])["aggregate"], expected)


class SenmlTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """One record for each member: its URI, its number, when it came; in JSON and CBOR."""
        found = results(value(b"21.5"), value(b"7", JSON))
        at_s = (START_MS + 20) / 1000
        for media_type in (SENML_JSON, SENML_CBOR):
            response = respond(found, media_type)
            self.assertEqual((response.content_type, response.status), (media_type, Status.CONTENT))
            self.assertEqual(parse(response.payload, media_type), (Record(uri_at(1), 21.5, None, at_s), Record(uri_at(2), 7, None, at_s)))

    def test_members_that_speak_senml(self) -> None:
        """A member's own records keep unit and time: a single one bears the member's name, several have theirs behind it."""
        now_s = (START_MS + 20) / 1000
        own = build([Record("temp", 20.5, "Cel", -5)], SENML_CBOR)
        two = build([Record("urn:dev:1:t", 1, time_s=1_700_000_000), Record("h", 2, "%RH")], SENML_JSON)
        response = respond(results(value(own, SENML_CBOR), value(two, SENML_JSON)), SENML_JSON)
        self.assertEqual(
            parse(response.payload, SENML_JSON),
            (
                Record(uri_at(1), 20.5, "Cel", now_s - 5),
                Record(f"{uri_at(2)}/urn:dev:1:t", 1, None, 1_700_000_000),
                Record(f"{uri_at(2)}/h", 2, "%RH", now_s),
            ),
        )

    def test_where_one_gave_none(self) -> None:
        """Text, an error and silence are no numbers: 406 names who gave none; who accepts something else too gets that."""
        for found in (
            results(value(b"1"), value(b"on")),
            results(value(b"1"), value(b"", None, "4.04")),
            results(value(b"1"), silent=(uri_at(2),)),
        ):
            with self.assertRaisesRegex(NotAcceptable, f"numbers alone: {uri_at(2)} gave none; offered: application/vnd"):
                respond(found, SENML_JSON)
            self.assertEqual(respond(found, SENML_JSON, RESULTS_CBOR).content_type, RESULTS_CBOR)
        with self.assertRaisesRegex(NotAcceptable, "and 2 others gave none"):
            respond(results(*[value(b"x")] * 7), SENML_JSON)


class LinesTests(SynchronousTestCase):
    def build(self) -> tuple[Lines, list[str]]:
        """Lines, and the list of what happens to their reader."""
        happened: list[str] = []
        lines = Lines(lambda: happened.append("closed"))
        verifyObject(IStream, lines)
        lines.open(lambda: happened.append("woken"))
        return lines, happened

    def test_lines(self) -> None:
        """A line for each answer when it is there, the summary, the end."""
        lines, happened = self.build()
        self.assertEqual(lines.read(), b"")
        lines.answered("coap://d1/t", value(b"1"))
        first = json.loads(lines.read() or b"")
        self.assertEqual((first["member"], first["status"], first["content"], first["ms"]), ("coap://d1/t", "2.05", "1", 20.0))
        lines.answered("coap://d2/t", value(b"2"))
        lines.finish({"complete": True})
        self.assertEqual(len((lines.read() or b"").splitlines()), 1)
        self.assertEqual((lines.read(), lines.read()), (b'{"complete":true}\n', None))
        lines.close()
        self.assertEqual(happened, ["woken", "woken", "woken"])

    def test_in_portions(self) -> None:
        """A reader that comes late gets many lines at once, and no more than some kilobytes."""
        lines, _ = self.build()
        for number in range(1000):
            lines.answered(f"coap://d{number}/t", value(b"1"))
        portions = []
        while portion := lines.read():
            portions.append(portion)
        self.assertLess(max(map(len, portions)), 20_000)
        self.assertEqual(len(b"".join(portions).splitlines()), 1000)

    def test_closed(self) -> None:
        """A reader that goes before the end is told of once; what comes then is dropped."""
        lines, happened = self.build()
        lines.answered("coap://d1/t", value(b"1"))
        lines.close()
        lines.close()
        lines.answered("coap://d2/t", value(b"1"))
        lines.finish({})
        self.assertEqual((happened, lines.read()), (["woken", "closed"], None))

    def test_who_takes_no_lines_one_by_one(self) -> None:
        """Whoever cannot take a stream gets all lines as one body."""
        response = respond(results(value(b"1"), value(b"2")), NDJSON)
        found = [json.loads(line) for line in response.payload.splitlines()]
        self.assertEqual([line.get("member") for line in found], [uri_at(1), uri_at(2), None])
        self.assertEqual((found[2]["complete"], response.content_type), (True, NDJSON))
