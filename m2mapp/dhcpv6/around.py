"""What the DHCPv6 roles need of the node around them. Responsible for holding it, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.model.interfaces import IClock, ICommit
from m2mapp.net.interfaces import IDatagrams, IHost
from m2mapp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class Dhcpv6Node:
    """The tree and who writes to it, the wall clock, the network, the host."""

    tree: Tree
    committer: ICommit
    clock: IClock
    datagrams: IDatagrams
    host: IHost
