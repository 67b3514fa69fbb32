"""Who is told of which changes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Change
from m2mapp.tree.watch import Watch, Watchers


def change(number: int, path: Path) -> Change:
    return Change(number, path, None, None, 0, "")


class WatcherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.errors: list[Exception] = []
        self.watchers = Watchers(self.errors.append)
        self.told: list[tuple[str, int]] = []

    def watch(self, name: str, path: Path, *, since: int = 0, subtree: bool = False) -> Watch:
        return self.watchers.add(path, lambda seen: self.told.append((name, seen.number)), since=since, subtree=subtree)

    def test_exact_and_subtree(self) -> None:
        """A watcher of a resource is told of that one, one of a subtree of the resource and of all below it, nobody of others."""
        self.watch("exact", ("a",))
        self.watch("subtree", ("a",), subtree=True)
        self.watch("all", (), subtree=True)
        self.watch("root", ())
        for number, path in enumerate([("a",), ("a", "b", "c"), ("ab",), ()], 1):
            self.watchers.tell(change(number, path))
        self.assertEqual(
            self.told, [("exact", 1), ("all", 1), ("subtree", 1), ("all", 2), ("subtree", 2), ("all", 3), ("root", 4), ("all", 4)]
        )

    def test_stopped(self) -> None:
        """A watcher that is stopped is told nothing more; stopping again is no error, and the others go on."""
        first, _ = self.watch("first", ("a",)), self.watch("second", ("a",))
        first.stop()
        first.stop()
        self.watchers.tell(change(1, ("a",)))
        self.assertEqual(self.told, [("second", 1)])

    def test_nothing_is_kept_of_stopped_watchers(self) -> None:
        """When the last watcher of a path stops, nothing of the path is kept; a new one can follow."""
        for _ in range(3):
            self.watch("again", ("a",)).stop()
        self.watch("last", ("a",))
        self.watchers.tell(change(1, ("a",)))
        self.assertEqual(self.told, [("last", 1)])

    def test_since(self) -> None:
        """A watcher is told of changes above the number that it began with."""
        self.watch("late", ("a",), since=5)
        for number in (4, 5, 6):
            self.watchers.tell(change(number, ("a",)))
        self.assertEqual(self.told, [("late", 6)])

    def test_stopped_by_another_while_told(self) -> None:
        """A watcher that another stops is not told of the change that is being told."""
        watches: list[Watch] = []
        self.watchers.add(("a",), lambda _: watches[0].stop(), since=0)
        watches.append(self.watch("stopped", ("a",)))
        self.watchers.tell(change(1, ("a",)))
        self.assertEqual(self.told, [])

    def test_stops_itself_while_told(self) -> None:
        """A watcher may stop itself when it has seen enough; those after it are told all the same."""
        watches: list[Watch] = []

        def once(seen: Change) -> None:
            self.told.append(("once", seen.number))
            watches[0].stop()

        watches.append(self.watchers.add(("a",), once, since=0))
        self.watch("after", ("a",))
        self.watchers.tell(change(1, ("a",)))
        self.watchers.tell(change(2, ("a",)))
        self.assertEqual(self.told, [("once", 1), ("after", 1), ("after", 2)])

    def test_begun_while_told(self) -> None:
        """A watcher that begins while a change is told hears of the next one."""
        begun: list[Watch] = []

        def begin(seen: Change) -> None:
            if not begun:
                begun.append(self.watch("new", ("a",), since=seen.number))

        self.watchers.add(("a",), begin, since=0)
        self.watchers.tell(change(1, ("a",)))
        self.watchers.tell(change(2, ("a",)))
        self.assertEqual(self.told, [("new", 2)])

    def test_raising_watcher(self) -> None:
        """What a watcher raises is reported once, and the others are told."""
        fault = ValueError("broken")

        def broken(_: Change) -> None:
            raise fault

        self.watchers.add(("a",), broken, since=0)
        self.watch("after", ("a",))
        self.watchers.tell(change(1, ("a",)))
        self.assertEqual((self.errors, self.told), ([fault], [("after", 1)]))

    def test_one_order_for_all(self) -> None:
        """What a watcher causes while it is told is told to all after that, also to those who have not heard the first yet."""

        def cause(seen: Change) -> None:
            if seen.number < 3:
                self.watchers.tell(change(seen.number + 1, ("a",)))

        self.watchers.add(("a",), cause, since=0)
        self.watch("other", ("a",))
        self.watchers.tell(change(1, ("a",)))
        self.assertEqual(self.told, [("other", 1), ("other", 2), ("other", 3)])
