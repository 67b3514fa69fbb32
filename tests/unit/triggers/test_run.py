"""The machine of one run: each way through figures 11, 14 and 15, what it asks, and what it comes to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import AnswerTooLarge, DeadlinePassed, Fault, NotSent, PeerFailed
from m2mapp.model.messages import Answer, Method
from m2mapp.model.principal import NODE
from m2mapp.triggers.changes import Content
from m2mapp.triggers.dependency import Dependency, dependency_of
from m2mapp.triggers.operation import Operation, checked_operation, operation_of
from m2mapp.triggers.run import RUN, Ask, Next, Run, State, Store, Turn
from m2mapp.triggers.trace import Outcome, StepKind

LEAST = {"rule": "value > 30", "objectResource": "/window", "method": "update"}
OK = Answer("2.04")
TEXT = "text/plain"


def operation(**more: object) -> Operation:
    """An operation of the node g1."""
    return operation_of("http://g1/t/Operations/o", checked_operation({**LEAST, **more}), NODE, ("t", "Operations", "o"))


def dependency(name: str, logic: str = "AND", uri: str = "/d") -> Dependency:
    """One that holds where the content is 1."""
    return dependency_of(name, {"uri": uri, "rule": "value == 1", "logic": logic})


class RunCase(SynchronousTestCase):
    def carry(self, run: Run, *answers: Answer | Fault) -> list[tuple[str, str] | tuple[str]]:
        """What the run asks for when it gets these answers one after another, a second each: methods and URIs, and what is stored."""
        told: list[tuple[str, str] | tuple[str]] = []
        now_s = 0.0
        following: Next = run.begin(now_s)
        left = list(answers)
        while following is not None:
            if isinstance(following, Store):
                told.append((following.status,))
                run.stored(None, 0.5)
                break
            told.append((following.method.value, following.uri))
            now_s += 1
            following = run.answered(left.pop(0), now_s)
        self.assertEqual((left, run.state), ([], State.OVER))
        return told


class WayTests(RunCase):
    def test_least(self) -> None:
        """No dependencies, no input, no output: the request, and its answer is the result."""
        run = Run(operation(), ())
        self.assertEqual(self.carry(run, OK), [("PUT", "http://g1/window"), ("2.04",)])
        self.assertEqual((run.outcome, [step.kind for step in run.steps]), (Outcome.RAN, [StepKind.REQUEST, StepKind.RESULT]))
        self.assertEqual([step.ms for step in run.steps], [1000.0, 0.5])

    def test_verbs(self) -> None:
        """Create is POST, retrieve GET, update PUT, delete DELETE; what is given is sent along."""
        for verb, method in (("create", Method.POST), ("retrieve", Method.GET), ("update", Method.PUT), ("delete", Method.DELETE)):
            given = {"input": "ON"} if verb in ("create", "update") else {}
            ask = Run(operation(method=verb, **given), ()).begin(0)
            self.assertEqual(ask, Ask(StepKind.REQUEST, method, "http://g1/window", Content(b"ON", TEXT) if given else None))

    def test_all(self) -> None:
        """Dependencies, then the input, the request, the output, which is the result; paths are of the operation's node."""
        run = Run(operation(inputURI="coap://g3/OFF", outputURI="/status"), (dependency("a"), dependency("b", uri="http://g4/d")))
        got = self.carry(run, Answer("200", b"1"), Answer("2.05", b"1"), Answer("2.05", b"OFF", TEXT), OK, Answer("200", b"Closed", TEXT))
        self.assertEqual(
            got,
            [
                ("GET", "http://g1/d"),
                ("GET", "http://g4/d"),
                ("GET", "coap://g3/OFF"),
                ("PUT", "http://g1/window"),
                ("GET", "http://g1/status"),
                ("200",),
            ],
        )
        sent = next(step.sent for step in run.steps if step.kind is StepKind.REQUEST)
        assert sent is not None
        self.assertEqual(sent.content, Content(b"OFF", TEXT))

    def test_dependencies_do_not_hold(self) -> None:
        """One that does not hold, cannot be evaluated, is refused or cannot be reached: nothing is sent, and it says why."""
        for answer, why in (
            (Answer("2.05", b"0"), "value == 1 does not hold"),
            (Answer("2.05", b"x"), "value is the text 'x', not a number"),
            (Answer("4.04", b"gone", TEXT), "it cannot be fetched: 4.04 gone"),
            (PeerFailed("away"), "it cannot be fetched: away"),
        ):
            run = Run(operation(), (dependency("a"),))
            self.assertEqual(self.carry(run, answer), [("GET", "http://g1/d")])
            self.assertEqual((run.outcome, run.why), (Outcome.DID_NOTHING, "a does not hold, which is necessary"))
            self.assertIn(why, run.steps[0].why)

    def test_one_that_is_lost(self) -> None:
        """A dependency whose document could not be had is not fetched: it does not hold, and says so; an OR may still be enough."""
        lost = Dependency("http://g4/d", "http://g4/d", dependency("x").rule, dependency("x").logic, "4.04")
        run = Run(operation(), (lost,))
        self.assertIsNone(run.begin(0))
        self.assertEqual((run.outcome, run.steps[0].why), (Outcome.DID_NOTHING, "it cannot be fetched: 4.04"))
        run = Run(operation(), (lost, dependency("b", "OR")))
        self.carry(run, Answer("2.05", b"1"), OK)
        self.assertEqual(run.outcome, Outcome.RAN)

    def test_input_is_gone(self) -> None:
        """Without its input nothing is sent; the result says so."""
        for answer, status in ((Answer("4.04"), "4.04"), (PeerFailed("away"), "peer-failed")):
            run = Run(operation(inputURI="/OFF"), ())
            self.assertEqual(self.carry(run, answer), [("GET", "http://g1/OFF"), (status,)])
            self.assertEqual(run.outcome, Outcome.FAILED)

    def test_output_is_gone(self) -> None:
        """The operation ran all the same; the result is what came of the reading."""
        run = Run(operation(outputURI="/status"), ())
        self.carry(run, OK, Answer("4.04"))
        self.assertEqual(run.outcome, Outcome.RAN)
        self.assertIn("its output could not be read", run.why)

    def test_refused(self) -> None:
        """An answer that is an error: failed, and the output is not read."""
        run = Run(operation(outputURI="/status"), ())
        self.assertEqual(self.carry(run, Answer("4.03", b"no", TEXT)), [("PUT", "http://g1/window"), ("4.03",)])
        self.assertEqual((run.outcome, run.why), (Outcome.FAILED, "the target answered 4.03 no"))

    def test_no_answer(self) -> None:
        """What may be sent again waits for its target; what may have been acted on, and must not be repeated, has failed."""
        for method, fault, away in (
            ("update", DeadlinePassed("late"), True),
            ("update", PeerFailed("reset"), True),
            ("update", AnswerTooLarge("100 MB"), False),
            ("create", NotSent("refused"), True),
            ("create", PeerFailed("broke off"), False),
            ("create", DeadlinePassed("late"), False),
        ):
            run = Run(operation(method=method), ())
            told = self.carry(run, fault)
            self.assertEqual((run.away, run.outcome, len(told)), (away, Outcome.FAILED, 1 if away else 2))


class TableTests(SynchronousTestCase):
    def test_only_what_the_table_has(self) -> None:
        """What the table does not have is an error, and changes nothing."""
        run = Run(operation(inputURI="/OFF"), ())
        run.begin(0.0)
        self.assertRaises(KeyError, run.stored, None, 0.0)
        self.assertEqual((run.state, run.steps), (State.FETCHING, []))

    def test_all_states_lead_to_the_end(self) -> None:
        """Each state is reached from the first one, and the last from each."""
        reached = {State.READY}
        for _ in State:
            reached |= {to for (start, _), to in RUN.items() if start in reached}
        self.assertEqual(reached, set(State))
        ending = {State.OVER}
        for _ in State:
            ending |= {start for (start, _), to in RUN.items() if to in ending}
        self.assertEqual(ending, set(State))
        self.assertEqual({turn for _, turn in RUN}, set(Turn))
