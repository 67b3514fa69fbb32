"""What all parts of a node stand on: its settings, its surroundings, its tree. Values alone; `build` makes them first."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from m2mapp.config import Settings
from m2mapp.model.metrics import Metrics
from m2mapp.net.memory import MemoryDatagrams
from m2mapp.net.udp import SystemDatagrams
from m2mapp.node.world import World
from m2mapp.store.committer import Committer
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the node that are there when a capability is built. `uri` is the node's own, without a path."""

    settings: Settings
    uri: str
    world: World
    metrics: Metrics
    tree: Tree
    rules: ResourceRules
    committer: Committer
    registrations: Registrations
    datagrams: SystemDatagrams | MemoryDatagrams
    random: Random
