"""Whether dependencies let an operation run, held against a slow and obvious model; and what is looked at on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.rules.language import parse_rule
from m2mapp.triggers.dependencies import Judging
from m2mapp.triggers.dependency import Dependency, Logic

RULE = parse_rule("value == 1")
Given = list[tuple[Logic, bool | None]]


def judged(found: Given) -> tuple[bool, list[int]]:
    """The outcome for dependencies of these kinds that come to this, and which were looked at."""
    dependencies = [Dependency(str(place), "/x", RULE, logic) for place, (logic, _) in enumerate(found)]
    judging, looked_at = Judging(dependencies), []
    while judging.outcome is None:
        place = int(judging.next().name)
        looked_at.append(place)
        judging.found(found[place][1])
    return judging.outcome, looked_at


def model(found: Given) -> bool:
    """What the claims say: none; or an OR holds; or there are ANDs and all of them hold."""
    if not found:
        return True
    sufficient = [holds is True for logic, holds in found if logic is Logic.OR]
    necessary = [holds is True for logic, holds in found if logic is Logic.AND]
    return any(sufficient) or (bool(necessary) and all(necessary))


def certain(found: Given, looked_at: list[int]) -> bool:
    """Whether the outcome is the same whatever those come to that were not looked at: tried one way and the other."""
    outcomes = {
        model([(logic, holds if place in looked_at else other) for place, (logic, holds) in enumerate(found)]) for other in (True, False)
    }
    return len(outcomes) == 1


SOME = st.lists(st.tuples(st.sampled_from(Logic), st.sampled_from([True, False, None])), max_size=8)


class ModelTests(SynchronousTestCase):
    @given(SOME)
    def test_as_the_model(self, found: Given) -> None:
        """The outcome is the model's, whatever the order; looking ends when the outcome is certain, and no sooner."""
        outcome, looked_at = judged(found)
        self.assertEqual(outcome, model(found))
        self.assertEqual(outcome, judged(found[::-1])[0])
        self.assertTrue(certain(found, looked_at))
        if looked_at:
            self.assertFalse(certain(found, looked_at[:-1]))
            self.assertEqual(looked_at, sorted(set(looked_at)))


class WhyTests(SynchronousTestCase):
    def test_why(self) -> None:
        """What decided is told."""
        for found, why in (
            ([], "it depends on nothing"),
            ([(Logic.OR, True)], "0 holds, which is enough"),
            ([(Logic.AND, True), (Logic.AND, True)], "all that are necessary hold"),
            ([(Logic.AND, True), (Logic.AND, None)], "1 does not hold, which is necessary"),
            ([(Logic.OR, False), (Logic.OR, None)], "none holds that would be enough"),
        ):
            judging = Judging([Dependency(str(place), "/x", RULE, logic) for place, (logic, _) in enumerate(found)])
            for _, holds in found:
                judging.found(holds)
            self.assertEqual(judging.why, why)
