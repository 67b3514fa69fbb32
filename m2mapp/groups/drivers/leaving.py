"""Crosses out the leaves that devices have confirmed, for all records together (`gathered`)."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from m2mapp.groups.drivers.gathered import Gathered
from m2mapp.groups.leaves import SetKey, leave_of, leave_path, without
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Remove, Write


class LeaveBook:
    """What has been confirmed and is not yet crossed out. Nothing is taken before `start` and after `stop`."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit) -> None:
        self._tree = tree
        self._news: Gathered[int] = Gathered(reactor, committer, self._update, "leaves that were confirmed")
        self.start, self.stop = self._news.start, self._news.stop

    def note(self, key: SetKey, members: Mapping[str, int]) -> None:
        """These leaves, by their numbers, are not owed any more."""
        self._news.note(key, members)

    def _update(self, key: SetKey, members: dict[str, int]) -> tuple[Write | Remove | None, int]:
        """The record without these, and how many members it has; None where it has none of them."""
        record = self._tree.expected(leave_path(key))
        change = without(record, members) if record is not None else None
        return (None, 0) if record is None or change is None else (change, len(leave_of(record).members))
