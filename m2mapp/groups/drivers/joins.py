"""Writes how far each member is in joining, for all sets together (`gathered`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime

from m2mapp.groups.drivers.gathered import Gathered
from m2mapp.groups.group import FANOUT_SET, GROUPS, SETS, Join, raw_joins, set_of
from m2mapp.groups.leaves import SetKey
from m2mapp.model.interfaces import ICommit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Write


class JoinBook:
    """What is known of joins and not yet written. Nothing is taken before `start` and after `stop`."""

    def __init__(self, reactor: IReactorTime, tree: Tree, committer: ICommit) -> None:
        self._tree = tree
        self._news: Gathered[Join] = Gathered(reactor, committer, self._update, "joins")
        self.start, self.stop = self._news.start, self._news.stop

    def note(self, key: SetKey, uris: Iterable[str], join: Join) -> None:
        """These members of the set are so far now."""
        self._news.note(key, dict.fromkeys(uris, join))

    def _update(self, key: SetKey, joins: dict[str, Join]) -> tuple[Write | None, int]:
        """The set with what is new, and how many members it has; None where nothing is, or the set is another by now."""
        group, name, address = key
        path = (*GROUPS, group, SETS, name)
        resource = self._tree.expected(path)
        if resource is None or resource.attributes["fanoutAddress"] != address:
            return None, 0
        known = raw_joins(resource)
        changed = {uri: join for uri, join in joins.items() if uri in known and known[uri] != join.value}
        if not changed:
            return None, len(known)
        one = set_of(resource)
        return Write(path, FANOUT_SET, replace(one, joins={**one.joins, **changed}).document()), len(known)
