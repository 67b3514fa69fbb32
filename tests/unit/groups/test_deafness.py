"""Who is taken for deaf."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups import deafness
from m2mapp.groups.deafness import AGAIN_S, DEAF_AFTER, Deafness
from m2mapp.groups.results import GroupResults, MemberResult
from tests.unit.groups.parts import uri_at


def results(*vias: str, group: str = "g") -> GroupResults:
    """What came of a request: the first member was reached like this, the second like that."""
    members = {uri_at(number): MemberResult("2.05", b"", None, via, 1.0) for number, via in enumerate(vias, 1)}
    return GroupResults(group, b"", "", members, (), 1, len(vias), 1.0)


def heard(deaf: Deafness, all_results: Iterable[GroupResults], now: float = 0.0) -> list[list[str]]:
    """Whom each of the results makes suspect."""
    return [deaf.heard(one, now) for one in all_results]


class DeafnessTests(SynchronousTestCase):
    def test_some_in_succession(self) -> None:
        """So many repairs in succession; an answer to a multicast request, or another group, does not count with them."""
        deaf = Deafness()
        for _ in range(DEAF_AFTER - 2):
            deaf.heard(results("repair", "repair"), 0.0)
        found = heard(deaf, [results("repair", "multicast"), results("repair", "repair"), results("unicast", "repair")])
        self.assertEqual(found, [[], [uri_at(1)], []])
        self.assertEqual(heard(deaf, [results("repair", "repair", group="h")]), [[]])

    def test_not_too_often(self) -> None:
        """A member that stays deaf is suspected again, but not before its time."""
        deaf = Deafness()
        self.assertEqual(sum(map(len, heard(deaf, [results("repair")] * 10 * DEAF_AFTER))), 1)
        self.assertEqual(sum(map(len, heard(deaf, [results("repair")], AGAIN_S))), 1)

    def test_bounded(self) -> None:
        """However many members there are, so many are counted; the oldest are forgotten."""
        self.patch(deafness, "MOST_KEPT", 3)
        deaf = Deafness()
        heard(deaf, [results(*["repair"] * 10)])
        self.assertEqual(len(deaf), 3)
