"""The parts of the node on which operations stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, ICommit, IJournals
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class Ground:
    """What of the node outlasts its process, and what finds others. `touch` is told each path whose volatile attributes changed."""

    tree: Tree
    committer: ICommit
    journals: IJournals
    clock: IClock
    registrations: Registrations
    touch: Callable[[Path], object] = lambda _: None
