"""What the answers to pushed reports mean, of a server elsewhere and of the node itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.pushing import Target, Verdict, is_unknown, verdict
from m2mapp.model.messages import Answer, Method
from m2mapp.model.principal import NODE


class VerdictTests(SynchronousTestCase):
    def test_codes(self) -> None:
        """A code means the same as HTTP has it, and as a node has it that is its own server: of CoAP."""
        cases = (
            (Method.PUT, "204", "2.04", Verdict.CONFIRMED),
            (Method.DELETE, "404", "4.04", Verdict.CONFIRMED),
            (Method.PUT, "404", "4.04", Verdict.AGAIN),
            (Method.PUT, "409", "4.09", Verdict.REFUSED),
            (Method.PUT, "401", "4.01", Verdict.AGAIN),
            (Method.PUT, "503", "5.03", Verdict.AGAIN),
        )
        for method, by_http, here, means in cases:
            for code in (by_http, here):
                self.assertIs(verdict(method, Answer(code, b"")), means, code)
                self.assertIs(is_unknown(Answer(code, b"")), by_http == "404", code)

    def test_the_node_itself(self) -> None:
        """A report has the node's own rights, which count where it is its own server."""
        target = Target(parse_uri("http://g1.example.org"), "g1")
        for outgoing in (target.greeting(), target.one("01", {}), target.one("01", None), target.many({"01": None}, whole=False)):
            self.assertEqual(outgoing.principal, NODE)
