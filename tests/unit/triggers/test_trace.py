"""Evaluations as documents: every step with what it saw, each text bounded, whatever came by."""

from __future__ import annotations

import json

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import dump_json
from m2mapp.triggers.changes import Content
from m2mapp.triggers.records import MOST_REASONS, Idle, nothing_record, told_in
from m2mapp.triggers.trace import Evaluation, Got, Outcome, Sent, Step, StepKind
from tests.unit.triggers.rig import evaluation, subject_change

LARGEST_BYTES = 160_000
"""What one evaluation takes at the very most: thirty-two steps, each as large as it can be."""
ANY = st.text(max_size=400) | st.binary(max_size=400) | st.integers(-(2**63), 2**63) | st.booleans() | st.none() | st.just("x" * 5_000)
CONTENTS = st.none() | st.builds(Content, st.binary(max_size=1_500), st.sampled_from([None, "text/plain", "application/json", "image/png"]))
STEPS = st.builds(
    Step,
    st.sampled_from(StepKind),
    st.floats(0, 1e6),
    st.text(max_size=300),
    st.sampled_from([True, False, None]),
    st.text(max_size=300) | st.just("y" * 5_000),
    st.dictionaries(st.text(max_size=20), ANY, max_size=20),
    st.none() | st.builds(Sent, st.just("PUT"), st.text(max_size=300), CONTENTS),
    st.none() | st.builds(Got, st.just("2.04"), CONTENTS),
)


class DocumentTests(SynchronousTestCase):
    def test_a_run(self) -> None:
        """A run's document has its change, each step with what it saw and how long it took, what was sent and what came back."""
        change = subject_change(7, b"31", at_ms=1_795_384_800_000, before=Content(b"20", "text/plain"), cause=("http://g2/x",))
        steps = (
            Step(StepKind.RULE, 0.0123, holds=True, why="value > 30 holds", seen={"value": 31}),
            Step(StepKind.DEPENDENCY, 12.5, "MemberAtHome", False, "value == 'Yes' does not hold", {"value": "No"}, got=Got("2.05")),
            Step(
                StepKind.REQUEST,
                3.0,
                sent=Sent("PUT", "http://g3/ac", Content(b"ON", "text/plain")),
                got=Got("204", Content(b"{}", "application/json")),
            ),
        )
        shown = Evaluation("/t/Operations/a", change, 1_795_384_800_005, Outcome.RAN, "it ran", steps).document()
        self.assertEqual(
            [shown[name] for name in ("id", "at", "outcome", "subject", "content", "before", "cause")],
            ["7", "2026-11-22T22:00:00.005Z", "ran", "/t", "31", "20", ["http://g2/x"]],
        )
        self.assertEqual(
            shown["steps"],
            [
                {"step": "rule", "ms": 0.012, "holds": True, "why": "value > 30 holds", "seen": {"value": 31}},
                {
                    "step": "dependency",
                    "ms": 12.5,
                    "name": "MemberAtHome",
                    "holds": False,
                    "why": "value == 'Yes' does not hold",
                    "seen": {"value": "No"},
                    "got": {"status": "2.05"},
                },
                {
                    "step": "request",
                    "ms": 3.0,
                    "sent": {"method": "PUT", "uri": "http://g3/ac", "content": "ON", "contentType": "text/plain"},
                    "got": {"status": "204", "content": {}, "contentType": "application/json"},
                },
            ],
        )

    @given(st.lists(STEPS, max_size=40), st.text(max_size=50), CONTENTS)
    def test_anything_is_bounded_and_can_be_kept_and_shown(self, steps: list[Step], why: str, before: Content | None) -> None:
        """Whatever rules saw and targets answered, the document is of a bounded size, and CBOR and JSON can say it."""
        change = subject_change(7, b"x" * 100_000, before=before)
        shown = Evaluation("/t/Operations/a", change, 0, Outcome.FAILED, why, tuple(steps)).document()
        self.assertLess(len(cbor2.dumps(dict(shown))), LARGEST_BYTES)
        self.assertEqual(json.loads(dump_json(shown))["contentBytes"], 100_000)


class JoiningTests(SynchronousTestCase):
    def test_reasons_are_bounded(self) -> None:
        """So many reasons are told apart; further ones are counted with the last of them, and none is lost."""
        idle = Idle()
        for number in range(50):
            steps = (Step(StepKind.DEPENDENCY, name=f"d{number}", holds=False),)
            idle.add(evaluation(subject_change(number), outcome=Outcome.DID_NOTHING, steps=steps))
        told = told_in(nothing_record("/t/Operations/a", idle).body)
        self.assertEqual(len(told), MOST_REASONS)
        self.assertEqual(sum(int(str(one.get("count", 1))) for one in told), 50)
        self.assertEqual(told[-1]["id"], "49")
