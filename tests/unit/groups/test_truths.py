"""One truth of all answers, and what members that gave none do to it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, TEXT, dump_cbor
from m2mapp.formats.rules.language import parse_rule
from m2mapp.groups.results import MemberResult
from m2mapp.groups.truths import ANY, EVERY, truth

WARM, COLD, TEXTUAL = b"31", b"19", b"warm"


def result(content: bytes, media_type: str | None = TEXT, status: str = "2.05") -> MemberResult:
    """A member's result."""
    return MemberResult(status, content, media_type, "multicast", 1.0)


def value_of(function: str, *contents: bytes, silent: tuple[str, ...] = ()) -> object:
    """Whether `value > 30` holds for every content or any."""
    members = {f"coap://d{number}/t": result(content) for number, content in enumerate(contents)}
    return truth(function, parse_rule("value > 30"), members, silent)["value"]


class TruthTests(SynchronousTestCase):
    def test_all_gave_one(self) -> None:
        """Every is false as soon as one does not hold, any true as soon as one holds."""
        for contents, every, any_of_them in (((WARM, WARM), True, True), ((WARM, COLD), False, True), ((COLD, COLD), False, False)):
            self.assertEqual((value_of(EVERY, *contents), value_of(ANY, *contents)), (every, any_of_them))

    def test_some_gave_none(self) -> None:
        """A member that gave none leaves the truth open, but where the others decide it; so does a group in which nobody gave one."""
        for contents, silent in (((TEXTUAL,), ()), ((), ("coap://d9/t",)), ((TEXTUAL,), ("coap://d9/t",)), ((), ())):
            self.assertEqual((value_of(EVERY, WARM, *contents, silent=silent)), True if not contents and not silent else None)
            self.assertEqual((value_of(ANY, COLD, *contents, silent=silent)), False if not contents and not silent else None)
            self.assertIs(value_of(EVERY, WARM, COLD, *contents, silent=silent), False)
            self.assertIs(value_of(ANY, WARM, COLD, *contents, silent=silent), True)
            self.assertIsNone(value_of(EVERY, *contents, silent=silent))
            self.assertIsNone(value_of(ANY, *contents, silent=silent))

    def test_told(self) -> None:
        """The function, the canonical rule, of how many, and who gave none and why."""
        members = {
            "coap://a/t": result(b'{"on":true}', JSON),
            "coap://b/t": result(dump_cbor({"on": False}), CBOR),
            "coap://c/t": result(b"{}", JSON),
            "coap://d/t": result(b'{"on":true}', JSON, "4.04"),
        }
        self.assertEqual(
            truth(ANY, parse_rule("json.on==true"), members, ["coap://e/t"]),
            {
                "function": "any",
                "rule": "json.on == true",
                "value": True,
                "of": 2,
                "without": ["coap://c/t", "coap://d/t", "coap://e/t"],
                "why": {"coap://c/t": "json.on is not there", "coap://d/t": "answered 4.04"},
            },
        )

    def test_reasons_are_short(self) -> None:
        """A reason takes no more than a line, however long the rule is."""
        rule = parse_rule(" or ".join(f"json.field{number} == 1" for number in range(40)))
        why = truth(ANY, rule, {"coap://a/t": result(b"{}", JSON)}, ())["why"]
        self.assertLessEqual(len(str(why)), 120)
