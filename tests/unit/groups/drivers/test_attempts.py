"""`groups.drivers.attempts`: which task is begun when, and how often."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.drivers.attempts import Attempts


class AttemptsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.begun, self.cancelled = Clock(), list[str](), list[str]()
        self.idle: set[str] = set()
        self.tasks = Attempts(self.clock, 2, self.begin)

    def tearDown(self) -> None:
        self.tasks.stop()
        self.assertEqual((self.clock.getDelayedCalls(), len(self.tasks)), ([], 0))

    def begin(self, task: str) -> Deferred[None] | None:
        """Begin an attempt that the test ends; there is nothing to tell of those that are `idle`."""
        self.begun.append(task)
        return None if task in self.idle else Deferred(lambda _: self.cancelled.append(task)).addErrback(lambda _: None)

    def add(self, *tasks: str) -> None:
        """There is news of these."""
        for task in tasks:
            self.tasks.add(task)
        self.tasks.work()

    def test_so_many_at_once(self) -> None:
        """Two at a time, in their order, each once; one of which nothing is to be told makes room at once."""
        self.idle.add("b")
        self.add("a", "b", "b", "c", "d")
        self.assertEqual((self.begun, len(self.tasks)), (["a", "b", "c"], 3))
        self.tasks.over("a", None)
        self.assertEqual((self.begun, "a" in self.tasks), (["a", "b", "c", "d"], False))

    def test_again_after_a_pause(self) -> None:
        """What was not taken is told again after its pause, and counted; news does not wait for that, and counts from the start."""
        self.add("a")
        self.assertEqual(self.tasks.over("a", 5), 5)
        self.clock.advance(5)
        self.assertEqual((self.begun, self.tasks.number("a")), (["a", "a"], 2))
        self.tasks.over("a", 60)
        self.add("a")
        self.assertEqual((self.begun, self.tasks.number("a")), (["a"] * 3, 1))

    def test_news_while_it_is_under_way(self) -> None:
        """However much news there is meanwhile, it is told once more, and at once, whatever came of the attempt."""
        self.add("a")
        self.add("a", "a")
        self.assertTrue(self.tasks.has_news("a"))
        self.assertEqual(self.tasks.over("a", 60), 0)
        self.assertEqual((self.begun, self.tasks.has_news("a")), (["a", "a"], False))
        self.assertIsNone(self.tasks.over("a", None))

    def test_told_by_another_way(self) -> None:
        """A task that is taken is under way without being begun; one that pauses is settled without being begun again."""
        self.tasks.take("a")
        self.add("a")
        self.assertEqual(self.begun, [])
        self.tasks.over("a", None)
        self.assertEqual(self.begun, ["a"])
        self.tasks.over("a", 5)
        self.tasks.settle("a")
        self.clock.advance(10)
        self.assertEqual((self.begun, len(self.tasks)), (["a"], 0))

    def test_rest(self) -> None:
        """One that rests is done, and begun again when its time has come."""
        self.add("a")
        self.tasks.rest("a", 5)
        self.tasks.over("a", None)
        self.assertNotIn("a", self.tasks)
        self.clock.advance(5)
        self.assertEqual((self.begun, self.tasks.number("a")), (["a", "a"], 1))

    def test_stopped(self) -> None:
        """What is under way is cancelled; what waits is not begun."""
        self.add("a", "b", "c")
        self.tasks.over("b", 5)
        self.tasks.stop()
        self.clock.advance(10)
        self.assertEqual((self.begun, self.cancelled), (["a", "b", "c"], ["a", "c"]))

    def test_answers_that_are_there_at_once(self) -> None:
        """A thousand attempts that are over at once are no thousand calls deep."""
        tasks: Attempts[int] = Attempts(self.clock, 2, lambda task: succeed(None).addCallback(lambda _: tasks.over(task, None)))
        for number in range(1000):
            tasks.add(number)
        tasks.work()
        self.assertEqual(len(tasks), 0)
