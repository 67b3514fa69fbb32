"""The fan-out machine: one group request, whatever answers come in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import RESULTS_CBOR, dump_cbor
from m2mapp.groups.fanout import (
    FANOUT,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_BYTES,
    QUIET_UNTIL_S,
    Ask,
    Event,
    FanOut,
    MulticastLeg,
    Phase,
    Target,
)
from m2mapp.groups.pace import LEAST_S, MOST_S, Pace
from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, NotSupported, Overloaded, PeerFailed
from m2mapp.model.messages import Method
from tests.unit.groups.parts import answer, uri_at


def target(number: int, *addresses: str) -> Target:
    """The member of device d<number>."""
    return Target(uri_at(number), addresses or (f"fd00::d{number}",), 5683)


def leg(*targets: Target, leisure_s: float = 0.1) -> MulticastLeg:
    """A multicast request to them."""
    return MulticastLeg("ff35::1", 5683, ("t",), targets, leisure_s)


def build_machine(*targets: Target, alone: tuple[str, ...] = (), method: Method = Method.GET, leisure_s: float = 0.1) -> FanOut:
    """A machine that begins at 100 s and has 30 s."""
    legs = (leg(*targets, leisure_s=leisure_s),) if targets else ()
    return FanOut(method, legs, alone, 100.0, 130.0)


class TableTests(SynchronousTestCase):
    def test_every_state_is_complete(self) -> None:
        """Before it is done every event is foreseen, but for a second end of the leisure time; afterwards only extra answers."""
        self.assertEqual({event for phase, event in FANOUT if phase is Phase.WAITING}, set(Event))
        self.assertEqual({event for phase, event in FANOUT if phase is Phase.REPAIRING}, set(Event) - {Event.LEISURE_OVER})
        self.assertEqual({event for phase, event in FANOUT if phase is Phase.DONE}, {Event.EXTRA})

    def test_what_is_not_foreseen_changes_nothing(self) -> None:
        """An event without a row raises and leaves the machine as it was."""
        machine = build_machine(target(1))
        machine.deadline_passed()
        self.assertRaises(KeyError, machine.deadline_passed)
        self.assertRaises(KeyError, machine.leisure_over)
        self.assertEqual((machine.phase, machine.silent), (Phase.DONE, (uri_at(1),)))


class AnswerTests(SynchronousTestCase):
    def test_all_answer(self) -> None:
        """It is done with the last answer; each result has status, content, way and time."""
        machine = build_machine(target(1), target(2), alone=(uri_at(3),))
        self.assertEqual(machine.start(), [Ask(uri_at(3), "unicast")])
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="fd00::d1"), 100.02), [uri_at(1)])
        machine.unicast_answer(Ask(uri_at(3), "unicast"), answer("4.04", b""), 100.03)
        self.assertFalse(machine.done)
        machine.multicast_answer(machine.legs[0], answer(source="fd00::d2"), 100.5)
        self.assertTrue(machine.done)
        found = {uri: (result.status, result.via, round(result.ms)) for uri, result in machine.results.items()}
        self.assertEqual(
            found, {uri_at(1): ("2.05", "multicast", 20), uri_at(3): ("4.04", "unicast", 30), uri_at(2): ("2.05", "multicast", 500)}
        )
        self.assertEqual((machine.silent, machine.received, machine.extra), ((), 3, 0))

    def test_strangers_and_repeats(self) -> None:
        """Answers of strangers, from another port, and second ones are counted and change nothing."""
        machine = build_machine(target(1), target(2))
        machine.multicast_answer(machine.legs[0], answer(source="fd00::d1"), 100.1)
        for other in (answer(source="fd00::99"), answer(source="fd00::d2", port=9), answer("5.00", b"other", "fd00::d1")):
            self.assertEqual(machine.multicast_answer(machine.legs[0], other, 100.2), [])
        self.assertEqual((machine.extra, machine.received, machine.results[uri_at(1)].content), (3, 1, b"21.5"))

    def test_a_loop(self) -> None:
        """A member that had the request by another way is settled: not silent, no result, asked no more."""
        machine = build_machine(target(1), target(2), target(3))
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer("5.08", b""), 100.1), [])
        self.assertEqual((list(machine.looped), machine.silent), ([uri_at(1)], (uri_at(2), uri_at(3))))
        self.assertEqual([ask.uri for ask in machine.leisure_over()], [uri_at(2), uri_at(3)])
        self.assertFalse(machine.unicast_answer(Ask(uri_at(2), "repair"), answer("508", b""), 101.0))
        machine.multicast_answer(machine.legs[0], answer(source="fd00::d3"), 102.0)
        self.assertEqual((machine.done, machine.silent, list(machine.results)), (True, (), [uri_at(3)]))

    def test_late(self) -> None:
        """What comes when it is done is counted only."""
        machine = build_machine(target(1))
        machine.deadline_passed()
        machine.multicast_answer(machine.legs[0], answer(), 131.0)
        machine.unicast_answer(Ask(uri_at(1), "repair"), answer(), 131.0)
        self.assertEqual((machine.results, machine.extra), ({}, 2))

    def test_several_addresses(self) -> None:
        """A device may answer from any address that it registered; the first answer counts."""
        machine = build_machine(target(1, "fd00::d1", "192.0.2.1"), target(2))
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="192.0.2.1"), 100.1), [uri_at(1)])
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="fd00::d1"), 100.1), [])

    def test_a_device_in_two_requests(self) -> None:
        """A device with members in two requests answers each: an answer counts for the member that was asked by that request alone."""
        legs = tuple(MulticastLeg("ff35::1", 5683, (path,), (Target(uri_at(1, "/" + path), ("fd00::d1",), 5683),), 0.1) for path in "ab")
        machine = FanOut(Method.GET, legs, (), 100.0, 130.0)
        self.assertEqual(machine.multicast_answer(legs[1], answer(payload=b"b"), 100.1), [uri_at(1, "/b")])
        self.assertEqual(machine.multicast_answer(legs[0], answer(payload=b"a"), 100.2), [uri_at(1, "/a")])
        self.assertEqual({uri: result.content for uri, result in machine.results.items()}, {uri_at(1, "/b"): b"b", uri_at(1, "/a"): b"a"})

    def test_two_members_of_one_device(self) -> None:
        """Two members whose device answers once both have that answer, which is one datagram."""
        machine = build_machine(target(1), Target("coap://alias/t", ("fd00::d1",), 5683))
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(), 100.1), [uri_at(1), "coap://alias/t"])
        self.assertEqual((machine.done, machine.received), (True, 1))

    def test_several_members_of_one_device(self) -> None:
        """A device with several members answers once: each has its own part; one that the document does not have has not answered."""
        uris = [uri_at(1, path) for path in ("/a", "/b", "/c")]
        machine = build_machine(*(Target(uri, ("fd00::d1",), 5683) for uri in uris))
        parts = {"/a": {"status": "2.05", "contentType": "text/plain", "content": "1"}, "/b": {"status": "4.04"}, "/x": {}}
        joined = answer(payload=dump_cbor({"members": parts}), content_type=RESULTS_CBOR)
        self.assertEqual(machine.multicast_answer(machine.legs[0], joined, 100.1), uris[:2])
        found = {uri: (result.status, result.content, result.content_type) for uri, result in machine.results.items()}
        self.assertEqual(found, {uris[0]: ("2.05", b"1", "text/plain"), uris[1]: ("4.04", b"", None)})
        self.assertEqual((machine.received, machine.leisure_over()), (1, [Ask(uris[2], "repair")]))

    def test_a_broken_joined_answer(self) -> None:
        """What is called a document of several members and is none is each member's answer as it is; one without them is nobody's."""
        two = (target(1), Target(uri_at(1, "/u"), ("fd00::d1",), 5683))
        for payload, answered in ((b"\xff", 2), (dump_cbor({}), 0), (dump_cbor({"members": {"/t": {"status": 5}, "/u": []}}), 0)):
            machine = build_machine(*two)
            machine.multicast_answer(machine.legs[0], answer(payload=payload, content_type=RESULTS_CBOR), 100.1)
            self.assertEqual((len(machine.results), machine.received), (answered, 1))

    def test_zones(self) -> None:
        """A link-local device is known by its zone, where it is registered with one; without one it may be in any."""
        machine = build_machine(target(1, "fe80::1%eth0"), target(2, "fe80::2"))
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="fe80::1%eth1"), 100.1), [])
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="fe80::1%eth0"), 100.1), [uri_at(1)])
        self.assertEqual(machine.multicast_answer(machine.legs[0], answer(source="fe80::2%eth1"), 100.1), [uri_at(2)])


class RepairTests(SynchronousTestCase):
    def test_the_silent_are_asked_again(self) -> None:
        """Some time after the longest leisure those are asked one by one that were asked by multicast and are silent."""
        machine = build_machine(target(1), target(2), alone=(uri_at(3),), leisure_s=2.0)
        self.assertEqual((machine.first_look_at, machine.repair_at), (102.0 + LEAST_S, 102.0 + MOST_S))
        machine.multicast_answer(machine.legs[0], answer(), 100.1)
        self.assertEqual(machine.leisure_over(), [Ask(uri_at(2), "repair")])
        machine.unicast_answer(Ask(uri_at(2), "repair"), answer(), 103.0)
        self.assertEqual((machine.results[uri_at(2)].via, machine.silent), ("repair", (uri_at(3),)))

    def test_a_late_multicast_answer_still_counts(self) -> None:
        """While it repairs, the answer to the multicast request may come first; the other is extra then."""
        machine = build_machine(target(1), target(2))
        [ask, _] = machine.leisure_over()
        machine.multicast_answer(machine.legs[0], answer(), 101.0)
        machine.unicast_answer(ask, answer(), 101.1)
        self.assertEqual((machine.results[uri_at(1)].via, machine.extra), ("multicast", 1))

    def test_post_is_not_repaired(self) -> None:
        """POST is asked once of members that keep no identifiers: no repair, and a failed question ends it for that member."""
        machine = build_machine(target(1), alone=(uri_at(2),), method=Method.POST)
        self.assertIsNone(machine.first_look_at)
        self.assertIsNone(machine.unicast_failed(Ask(uri_at(2), "unicast"), PeerFailed("reset"), 101.0))
        self.assertFalse(machine.done)
        machine.multicast_answer(machine.legs[0], answer(), 101.0)
        self.assertTrue(machine.done)
        self.assertEqual(machine.silent, (uri_at(2),))

    def test_no_time_for_repair(self) -> None:
        """Where the deadline comes before the end of the leisure time there is no repair; nor where nobody was asked by multicast."""
        self.assertIsNone(build_machine(target(1), leisure_s=40.0).first_look_at)
        self.assertIsNone(build_machine(alone=(uri_at(1),)).first_look_at)

    def test_little_time_for_repair(self) -> None:
        """Where the deadline comes soon after the leisure time, half of the time between is left for the repair."""
        machine = build_machine(target(1), leisure_s=29.8)
        self.assertAlmostEqual(machine.repair_at, 129.9)

    def test_a_post_is_repeated_for_those_who_keep_identifiers(self) -> None:
        """Members that do a request once, however often it comes, are asked again for a POST too; the others are not."""
        machine = FanOut(Method.POST, (leg(target(1), target(2)),), (uri_at(3),), 100.0, 130.0, frozenset({uri_at(1), uri_at(3)}))
        self.assertEqual(machine.first_look_at, 100.1 + LEAST_S)
        self.assertEqual(machine.leisure_over(), [Ask(uri_at(1), "repair")])
        self.assertEqual(machine.unicast_failed(Ask(uri_at(3), "unicast"), PeerFailed("reset"), 101.0), (Ask(uri_at(3), "unicast", 2), 0.5))

    def test_follows_the_round_trip(self) -> None:
        """A group whose last answers came 10 ms late is not waited for half a second next time; nor less than the first answer takes."""
        machine = build_machine(target(1), target(2), target(3))
        machine.pace = pace = Pace(0.01)
        self.assertEqual(machine.look_again_s(100.1), LEAST_S)
        machine.multicast_answer(machine.legs[0], answer(), 100.02)
        self.assertAlmostEqual(machine.repair_at, 100.1 + 0.022)
        machine.multicast_answer(machine.legs[0], answer(source="fd00::d2"), 100.12)
        self.assertAlmostEqual(machine.look_again_s(100.122), 0.0024)
        self.assertEqual(machine.look_again_s(100.13), 0.0)
        machine.leisure_over()
        machine.unicast_answer(Ask(uri_at(3), "repair"), answer(), 100.2)
        self.assertAlmostEqual(pace.late_s or 0.0, 0.01 + 0.01 / 8)

    def test_while_answers_come(self) -> None:
        """Answers that are read late, on a busy machine, put the repair off; at most for two seconds."""
        machine = build_machine(*(target(number) for number in range(1, 9)))
        for number in range(1, 8):
            machine.multicast_answer(machine.legs[0], answer(source=f"fd00::d{number}"), 100.05 + number / 2)
            self.assertLessEqual(machine.repair_at, 100.1 + QUIET_UNTIL_S + 0.5)
        self.assertGreaterEqual(machine.repair_at, 100.1 + QUIET_UNTIL_S)

    def test_not_sent(self) -> None:
        """Members whose multicast request could not leave are asked one by one at once, POST too; nothing is left to repair."""
        machine = build_machine(target(1), target(2), method=Method.POST)
        self.assertEqual(machine.not_sent(machine.legs[0]), [Ask(uri_at(1), "unicast"), Ask(uri_at(2), "unicast")])
        self.assertEqual((machine.legs, machine.silent), ((), (uri_at(1), uri_at(2))))


class FailureTests(SynchronousTestCase):
    def test_asked_once_more(self) -> None:
        """A member that cannot be reached is asked again after growing pauses, until the deadline would be passed."""
        machine = build_machine(alone=(uri_at(1),))
        pauses, ask = [], Ask(uri_at(1), "unicast")
        for _ in range(7):
            again = machine.unicast_failed(ask, PeerFailed("reset"), 101.0)
            assert again is not None
            ask, pause = again
            pauses.append(pause)
        self.assertEqual(pauses, [FIRST_PAUSE_S, 1.0, 2.0, 4.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S])
        self.assertEqual(ask.attempt, 8)
        self.assertIsNone(machine.unicast_failed(ask, Overloaded(), 125.0))
        self.assertFalse(machine.done)

    def test_an_answer_that_is_too_large(self) -> None:
        """A member that answers more than is taken is not asked again: its result is a gateway's error, for a POST too."""
        for method in (Method.GET, Method.POST):
            machine = build_machine(alone=(uri_at(1),), method=method)
            self.assertIsNone(machine.unicast_failed(Ask(uri_at(1), "unicast"), AnswerTooLarge("more than 9 bytes"), 101.0))
            result = machine.results[uri_at(1)]
            self.assertEqual((machine.done, machine.silent, machine.refused), (True, (), None))
            self.assertEqual((result.status, result.content), ("5.02", b"more than 9 bytes"))

    def test_answers_that_are_too_large_together(self) -> None:
        """All answers have a bound in bytes: who answers beyond it stands with an error, and a small answer is taken all the same."""
        machine = build_machine(target(1), target(2), target(3))
        for number, size in ((1, MOST_BYTES - 10), (2, 1000), (3, 2)):
            machine.multicast_answer(machine.legs[0], answer(payload=b"x" * size, source=f"fd00::d{number}"), 100.1)
        self.assertEqual([machine.results[uri_at(number)].status for number in (1, 2, 3)], ["2.05", "5.02", "2.05"])
        self.assertIn(b"no room for 1000 bytes", machine.results[uri_at(2)].content)

    def test_certain_silence(self) -> None:
        """A member that cannot be asked at all is settled: nobody waits for it; its reason is that of the whole where it is everybody's."""
        machine = build_machine(alone=(uri_at(1), uri_at(2)))
        self.assertIsNone(machine.unicast_failed(Ask(uri_at(1), "unicast"), NotSupported("no https"), 101.0))
        self.assertIsNone(machine.refused)
        machine.unicast_failed(Ask(uri_at(2), "unicast"), NotSupported("no https"), 101.0)
        self.assertTrue(machine.done)
        self.assertIsInstance(machine.refused, NotSupported)

    def test_an_answer_after_all(self) -> None:
        """A member that was given up for certain and answers the multicast request after all has its answer."""
        machine = build_machine(target(1), target(2))
        [ask, _] = machine.leisure_over()
        machine.unicast_failed(ask, DeadlinePassed(), 101.0)
        machine.multicast_answer(machine.legs[0], answer(), 101.0)
        self.assertEqual((list(machine.results), machine.lost, machine.done), ([uri_at(1)], {}, False))

    def test_out_of_time(self) -> None:
        """A question that ends with the deadline leaves its member silent; it is the deadline that ends the request."""
        machine = build_machine(alone=(uri_at(1),))
        self.assertIsNone(machine.unicast_failed(Ask(uri_at(1), "unicast"), DeadlinePassed(), 130.0))
        self.assertEqual((machine.lost, machine.done), ({}, False))

    def test_different_reasons(self) -> None:
        """Where members could not be asked for different reasons, or were only not reached, no one reason is given."""
        machine = build_machine(alone=(uri_at(1), uri_at(2)), method=Method.POST)
        machine.unicast_failed(Ask(uri_at(1), "unicast"), PeerFailed("reset"), 101.0)
        machine.unicast_failed(Ask(uri_at(2), "unicast"), PeerFailed("reset"), 101.0)
        self.assertEqual((machine.done, machine.refused), (True, None))

    def test_after_it_is_done(self) -> None:
        """A question that fails when its member has answered, or all is done, changes nothing."""
        machine = build_machine(target(1), target(2))
        machine.multicast_answer(machine.legs[0], answer(), 100.1)
        self.assertIsNone(machine.unicast_failed(Ask(uri_at(1), "repair"), PeerFailed(), 101.0))
        machine.deadline_passed()
        self.assertIsNone(machine.unicast_failed(Ask(uri_at(2), "repair"), PeerFailed(), 131.0))
        self.assertEqual(machine.lost, {})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("multicast"), st.integers(0, 8)),
        st.tuples(st.just("unicast"), st.integers(0, 5)),
        st.tuples(st.just("failed"), st.integers(0, 5)),
        st.tuples(st.just("refused"), st.integers(0, 5)),
        st.tuples(st.just("leisure"), st.just(0)),
    ),
    max_size=60,
)


class PropertyTests(SynchronousTestCase):
    @given(st.sampled_from([Method.GET, Method.PUT, Method.POST]), st.integers(0, 6), STEPS)
    def test_any_order(self, method: Method, by_multicast: int, steps: list[tuple[str, int]]) -> None:
        """Any order, loss, repetition, strangers: it ends once, each member has one result or is silent, no result changes."""
        uris = [uri_at(number) for number in range(6)]
        machine = FanOut(
            method,
            (leg(*(target(number) for number in range(by_multicast))),) if by_multicast else (),
            tuple(uris[by_multicast:]),
            0.0,
            30.0,
        )
        repaired, ended = False, 0
        first: dict[str, bytes] = {}
        for number, (what, which) in enumerate(steps):
            was_done, now = machine.done, 0.1 * number
            said = answer(payload=str(number).encode(), source=f"fd00::d{which}")
            if what == "multicast":
                if machine.legs:
                    machine.multicast_answer(machine.legs[0], said, now)
            elif what == "unicast":
                machine.unicast_answer(Ask(uris[which], "unicast"), said, now)
            elif what == "leisure":
                if not repaired and not machine.done:
                    self.assertFalse({ask.uri for ask in machine.leisure_over()} & set(machine.results))
                    repaired = True
            else:
                machine.unicast_failed(Ask(uris[which], "unicast"), PeerFailed() if what == "failed" else NotSupported(), now)
            for uri, result in machine.results.items():
                first.setdefault(uri, result.content)
            ended += machine.done and not was_done
        if not machine.done:
            machine.deadline_passed()
            ended += 1
        self.assertEqual(ended, 1)
        self.assertEqual({uri: result.content for uri, result in machine.results.items()}, first)
        self.assertEqual(sorted([*machine.results, *machine.silent]), sorted(uris))
        self.assertLessEqual(len(machine.results), machine.received + 5)
