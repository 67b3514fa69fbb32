"""`model.seen`: which requests are acted on, and what is forgotten when."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Conflict, Fault, LoopDetected, Overloaded
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.model.principal import Principal
from m2mapp.model.seen import MOST_FORGOTTEN, Bounds, Seen, SeenRequests, State, requester_of, requester_tag

CHANGED = Response(Status.CHANGED)
GATEWAY = Principal("coap:fd00::1")


def asked(number: int = 1, method: Method = Method.PUT, path: str = "a", who: str = GATEWAY.name, **more: object) -> Request:
    """A request with the identifier of that number."""
    return Request(method, (path,), principal=Principal(who), request_id=number.to_bytes(8, "big"), **more)  # type: ignore[arg-type]


class SeenCase(SynchronousTestCase):
    """A memory for three reads and six writes, three of one requester."""

    def setUp(self) -> None:
        """Nothing is remembered."""
        self.seen = SeenRequests(Bounds(keep_s=10.0, writes=6, reads=3, payload_bytes=100, longest_payload=60))

    def act(self, request: Request, now: float = 0.0, answer: Response = CHANGED) -> Seen:
        """The request is acted on, with this answer."""
        one, is_due = self.seen.check(request, now)
        self.assertTrue(is_due)
        self.seen.done(one, answer)
        return one

    def assert_known(self, request: Request, now: float = 0.0, answer: Response | None = CHANGED) -> None:
        """The request is not acted on, and this is its answer."""
        one, is_due = self.seen.check(request, now)
        self.assertEqual((is_due, one.answer), (False, answer))

    def fault(self, request: Request, kind: type[Fault], now: float = 0.0) -> Fault:
        """The fault of a request that is refused."""
        found = self.assertRaises(kind, self.seen.check, request, now)
        assert isinstance(found, Fault)
        return found


class WhoTests(SeenCase):
    def test_the_same_again(self) -> None:
        """From the same requester: the first answer; while it is under way, none yet and no second act."""
        one, is_due = self.seen.check(asked(), 0.0)
        self.assertTrue(is_due)
        self.assert_known(asked(), answer=None)
        self.seen.done(one, CHANGED)
        self.assert_known(asked())

    def test_loop(self) -> None:
        """From another requester it is a loop, whether it is under way, done or failed, and also where it says something else."""
        one, _ = self.seen.check(asked(), 0.0)
        for end in (lambda: None, lambda: self.seen.done(one, CHANGED), lambda: self.seen.failed(one)):
            end()
            self.fault(asked(who="coap:fd00::2"), LoopDetected)
        self.fault(asked(who="coap:fd00::2", payload=b"x"), LoopDetected)
        self.assertEqual(self.seen.loops.value, 4)

    def test_another_address(self) -> None:
        """A requester with a tag is known by that: its repair may come from another of its addresses, or by HTTP with a token."""
        tag = requester_tag("http://g1", ("groups", "g"), b"12345678")
        self.act(asked(who="coap:fe80::1%eth0", requester=tag))
        self.assert_known(asked(who="coap:fd00::1", requester=tag))
        self.assert_known(asked(who="operator", requester=tag))
        self.fault(asked(who="coap:fe80::1%eth0"), LoopDetected)

    def test_tags(self) -> None:
        """A tag has eight bytes, and is another for another server, group or identifier; the same after a restart."""
        same = ("http://g1", ("groups", "g"), b"12345678")
        others = (("http://g2", *same[1:]), (same[0], ("groups", "h"), same[2]), (*same[:2], b"abcdefgh"))
        self.assertEqual({len(requester_tag(*one)) for one in (same, *others)}, {8})
        self.assertEqual(len({requester_tag(*one) for one in (same, same, *others)}), 4)

    def test_without_a_tag(self) -> None:
        """Else it is known by its principal, whose name has no port."""
        self.assertEqual(requester_of(asked()._replace(source=("fd00::1", 61616))), b"coap:fd00::1")

    def test_what_makes_it_another(self) -> None:
        """Another identifier, method or target is a request like any other."""
        self.act(asked())
        for other in (asked(2), asked(method=Method.DELETE), asked(path="b", who="operator")):
            self.act(other)

    def test_identifier_used_again(self) -> None:
        """An honest caller's identifier of another request to the same target: told apart, and said so."""
        self.act(asked(payload=b"on", content_type="text/plain"))
        self.assert_known(asked(payload=b"on", content_type="text/plain"))
        for other in (asked(payload=b"off", content_type="text/plain"), asked(payload=b"on"), asked(payload=b"on", query=(("a", ""),))):
            self.assertIn("0000000000000001 is that of another request", self.fault(other, Conflict).detail)

    def test_failed(self) -> None:
        """What failed was not done: the next one of the same requester acts."""
        one, _ = self.seen.check(asked(), 0.0)
        self.seen.failed(one)
        self.act(asked())
        self.assert_known(asked())

    def test_without_an_identifier(self) -> None:
        """Who asks about a request without one has made a mistake."""
        self.assertRaises(ValueError, self.seen.check, Request(Method.PUT, ("a",)), 0.0)


class ForgettingTests(SeenCase):
    def test_lifetime(self) -> None:
        """It is remembered to the end of its lifetime and no longer; a flood of others changes nothing of it."""
        self.act(asked())
        for number in range(2, 9):
            self.assertRaises(Overloaded, self.seen.check, asked(number, who="flood"), 9.0) if number > 4 else self.act(
                asked(number, who="flood"), 1.0
            )
        self.assert_known(asked(), 9.9)
        self.act(asked(), 10.0)

    def test_share(self) -> None:
        """One requester has half of the room, however often it changes its tag: then it is told when to try again, and others still act."""
        for number in range(3):
            self.act(asked(number, requester=number.to_bytes(8, "big")), 1.0)
        fault = self.fault(asked(9), Overloaded, 2.0)
        assert isinstance(fault, Overloaded)
        self.assertEqual(fault.retry_after_s, 10)
        self.act(asked(9, who="other"), 2.0)
        self.act(asked(8), 11.0)

    def test_full(self) -> None:
        """Where all have their share, nobody's live one is forgotten for another."""
        for number in range(6):
            self.act(asked(number, who=f"w{number % 2}"))
        self.fault(asked(9, who="third"), Overloaded)
        for number in range(6):
            self.assert_known(asked(number, who=f"w{number % 2}"))

    def test_reads(self) -> None:
        """Reads have a room of their own, in which the oldest makes place, but one that is under way stays."""
        under_way, _ = self.seen.check(asked(0, Method.GET), 0.0)
        for number in range(1, 5):
            self.act(asked(number, Method.GET), answer=Response(Status.CONTENT))
        self.assertEqual(len(self.seen), 3)
        self.assert_known(asked(0, Method.GET), answer=None)
        self.act(asked(1, Method.GET))
        self.assertIs(under_way.state, State.UNDER_WAY)

    def test_long_paths(self) -> None:
        """A request for a long path, or one of many segments, takes the room of several: of reads the oldest make place for it."""
        for number, path in ((1, ("x" * 256,)), (2, ("x",) * 32)):
            for other in range(5, 8):
                self.act(asked(other + 10 * number, Method.GET))
            self.act(Request(Method.GET, path, principal=GATEWAY, request_id=number.to_bytes(8, "big")))
            self.assertEqual(len(self.seen), 1)
        self.assertRaises(Overloaded, self.seen.check, asked(path="x" * 512), 0.0)

    def test_all_under_way(self) -> None:
        """Where every read is under way, the next one is refused."""
        for number in range(3):
            self.seen.check(asked(number, Method.GET), 0.0)
        self.fault(asked(9, Method.GET), Overloaded)

    def test_long_operation(self) -> None:
        """What is under way is not forgotten, whatever its age, and is kept as long again afterwards."""
        one, _ = self.seen.check(asked(), 0.0)
        self.assert_known(asked(), 25.0, None)
        self.act(asked(2), 26.0)
        self.seen.done(one, CHANGED)
        self.assert_known(asked(), 34.9)

    def test_bounded_work(self) -> None:
        """One call forgets a bounded number; those that are over and still there count as forgotten."""
        seen = SeenRequests(Bounds(keep_s=10.0))
        for number in range(3 * MOST_FORGOTTEN):
            seen.done(seen.check(asked(number), 0.0)[0], CHANGED)
        self.assertTrue(seen.check(asked(3 * MOST_FORGOTTEN - 1), 10.0)[1])
        self.assertEqual(len(seen), 2 * MOST_FORGOTTEN)

    def test_payloads(self) -> None:
        """The oldest answers' payloads are let go: the read is done again, the write is not, and is told why."""
        for number, method in ((1, Method.GET), (2, Method.POST), (3, Method.POST), (4, Method.GET)):
            self.act(asked(number, method), answer=Response(Status.CONTENT, b"x" * 60))
        self.act(asked(1, Method.GET))
        self.assertIn("is not kept any more", self.fault(asked(2, Method.POST), Conflict).detail)
        self.assert_known(asked(3, Method.POST), answer=Response(Status.CONTENT, b"x" * 60))

    def test_large_payload(self) -> None:
        """An answer that is too large is not kept, and takes nobody's room."""
        self.act(asked(1, Method.POST), answer=Response(Status.CONTENT, b"x" * 60))
        self.act(asked(2, Method.POST), answer=Response(Status.CONTENT, b"x" * 61))
        self.fault(asked(2, Method.POST), Conflict)
        self.assert_known(asked(1, Method.POST), answer=Response(Status.CONTENT, b"x" * 60))

    def test_restored(self) -> None:
        """What was done before a restart is known, but for the oldest beyond the bound; what is known already stays as it is."""
        self.act(asked(0))
        for number in range(8):
            request = asked(number, payload=b"" if number else b"other")
            self.seen.restore(replace(self._seen(request), state=State.DONE, answer=CHANGED))
        self.assertEqual(len(self.seen), 6)
        for number in range(2, 8):
            self.assert_known(asked(number))

    def _seen(self, request: Request) -> Seen:
        return SeenRequests(Bounds(keep_s=10.0)).check(request, 0.0)[0]


@dataclass
class _Model:
    """One request as the model has it."""

    requester: str
    payload: bytes
    at_s: int
    is_done: bool


_STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # identifier
        st.sampled_from(("g1", "g2", "g3")),
        st.sampled_from((b"on", b"off")),
        st.sampled_from(("done", "fails", "stays")),
        st.integers(0, 4),  # seconds that pass before
    ),
    max_size=40,
)


class ModelTests(SynchronousTestCase):
    """Against a plain dict: time, bound, requesters."""

    @settings(max_examples=150)
    @given(steps=_STEPS)
    def test_as_the_model(self, steps: list[tuple[int, str, bytes, str, int]]) -> None:
        """Each step is acted on, answered again, a loop, another request or refused as the model says; the bounds hold at each."""
        seen = SeenRequests(Bounds(keep_s=10.0, writes=4))
        model: dict[int, _Model] = {}
        now = 0
        for number, who, payload, end, pause in steps:
            now += pause
            model = {key: one for key, one in model.items() if one.at_s + 10 > now}
            known = model.get(number)
            request = asked(number, Method.POST, who=who, payload=payload)
            if known is None and (sum(one.requester == who for one in model.values()) >= 2 or len(model) >= 4):
                self.assertRaises(Overloaded, seen.check, request, now)
            elif known is not None and known.requester != who:
                self.assertRaises(LoopDetected, seen.check, request, now)
            elif known is not None and known.payload != payload:
                self.assertRaises(Conflict, seen.check, request, now)
            else:
                one, is_due = seen.check(request, now)
                self.assertEqual(is_due, known is None or not known.is_done)
                if is_due and end == "done":
                    seen.done(one, CHANGED)
                elif is_due:
                    seen.failed(one)
                if known is None:
                    known = model[number] = _Model(who, payload, now, False)
                known.is_done = known.is_done or end == "done"
            self.assertEqual(len(seen), len(model))
