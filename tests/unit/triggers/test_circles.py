"""Circles that are seen when an operation is saved."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import parse_uri
from m2mapp.model.identifiers import Path
from m2mapp.model.principal import NODE
from m2mapp.triggers.circles import MOST_LOOKED_AT, circle_of
from m2mapp.triggers.operation import Operation, checked_operation, operation_of


def operation(subject: str, target: str, method: str = "update") -> Operation:
    """An operation of a subject of the node g1, named after its target."""
    name = target.rpartition("/")[2]
    document = {"rule": "changed", "objectResource": target, "method": method}
    return operation_of(f"http://g1/{subject}/Operations/{name}", checked_operation(document), NODE, (subject, "Operations", name))


def own(uri: str) -> Path | None:
    """Paths of the node g1."""
    found = parse_uri(uri)
    return found.path if found.host == "g1" else None


class CircleTests(SynchronousTestCase):
    def circle(self, *edges: tuple[str, str]) -> tuple[str, ...]:
        """The circle of the first operation, where subjects have operations with these targets."""
        tied: dict[Path, list[Operation]] = {}
        for subject, target in edges:
            tied.setdefault((subject,), []).append(operation(subject, target))
        first = operation(*edges[0])
        self.calls = 0

        def operations_of(path: Path) -> list[Operation]:
            self.calls += 1
            return tied.get(path, [])

        return circle_of(first, (edges[0][0],), operations_of, own)

    def test_found(self) -> None:
        """On itself, over one, over several; the shortest is told."""
        self.assertEqual(self.circle(("a", "/a")), ("/a/Operations/a",))
        self.assertEqual(self.circle(("a", "http://g1/b"), ("b", "/a")), ("/a/Operations/b", "/b/Operations/a"))
        edges = (("a", "/b"), ("b", "/c"), ("c", "/d"), ("d", "/a"), ("c", "/a"))
        self.assertEqual(self.circle(*edges), ("/a/Operations/b", "/b/Operations/c", "/c/Operations/a"))

    def test_none(self) -> None:
        """What leads elsewhere, only reads, or is in a circle in which the first is not."""
        self.assertEqual(self.circle(("a", "http://g2/a")), ())
        self.assertEqual(self.circle(("a", "/b"), ("b", "/c"), ("c", "/b")), ())
        self.assertEqual(circle_of(operation("a", "/a", "retrieve"), ("a",), lambda _: (), own), ())

    def test_bounded(self) -> None:
        """However many operations lead on, so many are looked at."""
        edges = [("a", "/s0")] + [(f"s{number}", f"/s{number + 1}") for number in range(2 * MOST_LOOKED_AT)]
        self.assertEqual(self.circle(*edges), ())
        self.assertLessEqual(self.calls, MOST_LOOKED_AT)
