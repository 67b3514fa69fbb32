"""When an edit of a group has had its effect: the devices that came have joined, those that went have confirmed that they left.

Not responsible for the edit itself (`views.groups`, `views.group_form`).
"""

from __future__ import annotations

from collections.abc import Callable

from m2mapp.admin.groupings import GROUP, GROUPS, LEAVES, joins_of, members_in, owed_in, sets_in
from m2mapp.admin.visit import Visit
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource

WITHIN_S = 60.0
"""So long the effect is awaited; devices that are away join and leave when they are back."""

Holds = Callable[[Resource | None], str | None]


def tell_joins(visit: Visit, name: str, text: str) -> None:
    """Tell that a group is made or changed: as done when each of its devices that is told to join has confirmed."""
    if joined(visit.node.tree, name)(visit.node.tree.find((*GROUPS, name))) is None:
        visit.asked_for(text, visit.when((*GROUPS, name), joined(visit.node.tree, name), WITHIN_S))
    else:
        visit.done(text, joins_of(sets_in(visit.node.tree, name)).words)


def tell_leaves(visit: Visit, before: Resource, text: str) -> None:
    """Tell that members were taken out of a group, or it was ended: as done when their devices have confirmed that they left.

    `before` is the group as it was: of those who have gone since, and of no others, the leaves are awaited.
    """
    tree, name = visit.node.tree, before.path[-1]
    now = tree.find(before.path)
    gone = frozenset(members_in(before)).difference(members_in(now) if now is not None else ())
    if _owing(tree, name, gone):
        visit.asked_for(text, visit.when(LEAVES, left(tree, name, gone), WITHIN_S))
    else:
        visit.done(text)


def joined(tree: Tree, name: str) -> Holds:
    """Holds when every device of the group that is told to join has joined."""

    def holds(group: Resource | None) -> str | None:
        if group is None or group.type != GROUP:
            return "the group was ended meanwhile"
        joins = joins_of(sets_in(tree, name))
        return None if joins.pending or joins.failed else joins.words

    return holds


def left(tree: Tree, name: str, gone: frozenset[str]) -> Holds:
    """Holds when all of these members of the group have left, as far as they have to."""
    count = len(_owing(tree, name, gone))

    def holds(_: Resource | None) -> str | None:
        if _owing(tree, name, gone):
            return None
        return f"{count} {'member has' if count == 1 else 'members have'} left, as their devices confirmed"

    return holds


def _owing(tree: Tree, name: str, gone: frozenset[str]) -> frozenset[str]:
    """Those of these members whose devices have still to leave."""
    return gone & owed_in(tree, name)
