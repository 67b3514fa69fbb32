"""What `twistd m2m` runs: the command line, the real world, the nodes of one process. The only module that imports the reactor.

How one node is built is in `node`.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, ClassVar, NoReturn, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorPluggableNameResolver, IReactorTime
from twisted.logger import Logger
from twisted.python import usage

from m2mapp.clients.resolver import SystemResolver
from m2mapp.config import EXIT_CONFIG, BadConfiguration, Settings, clashes, load
from m2mapp.http.tokens import TokenFileError
from m2mapp.model.errors import Malformed
from m2mapp.model.metrics import Metrics
from m2mapp.net.addresses import AddressSource
from m2mapp.net.clock import WallClock, make_monotonic
from m2mapp.net.group_sockets import GroupSockets
from m2mapp.net.host import SystemHost
from m2mapp.net.notify import notify
from m2mapp.net.reading import Reactor
from m2mapp.net.udp import SystemDatagrams
from m2mapp.node.build import make_node
from m2mapp.node.life import CannotStart
from m2mapp.node.world import HostAddresses, World
from m2mapp.store.committer import Committer
from m2mapp.store.errors import StoreRefused
from m2mapp.store.kept import kept
from m2mapp.store.service import StoreService
from m2mapp.store.threads import StoreThreads
from m2mapp.tree.tree import Tree

_log = Logger(namespace="m2mapp")

EXIT_CANNOT_START = 1
"""The exit code where something outside the configuration keeps a node from starting: starting again may help."""
STORE_THREADS = 8
"""So many threads wait for the disk, for all nodes of the process."""
FILES_A_NODE = 8
"""So many files a device has open: six of its store, a socket for DHCPv6 and one for CoAP. Groups take one each for all nodes."""
USUAL_CONFIG = "/etc/m2mapp/gateway.toml"


class Options(usage.Options):
    """The command line of `twistd m2m`."""

    synopsis = "[--check] --config FILE_OR_DIRECTORY [--config ...]"
    longdesc = "Runs m2mapp nodes: one for each configuration file; of a directory, each *.toml file is one."
    optFlags: ClassVar = [["check", None, "Tell every fault of the configuration and exit: 0, or 78 with the list on standard error."]]

    def __init__(self) -> None:
        super().__init__()
        self["config"] = []

    def opt_config(self, place: str) -> None:
        """The configuration file, or a directory of them [default: /etc/m2mapp/gateway.toml]."""
        self["config"].append(place)

    def postOptions(self) -> None:
        """Read the configuration. A fault ends the program here, before it detaches, with exit code 78."""
        files = config_files(self["config"] or [USUAL_CONFIG])
        loaded: dict[str, Settings] = {}
        faults: list[str] = []
        for file in files:
            try:
                loaded[file] = load(file)
            except BadConfiguration as bad:
                faults += bad.lines
        if not files:
            faults.append(f"{', '.join(self['config'])}: no *.toml file is there")
        faults += clashes(loaded)
        if faults:
            _end(faults, EXIT_CONFIG)
        self["settings"] = list(loaded.values())
        if self["check"]:
            raise SystemExit(0)


def config_files(places: Sequence[str]) -> list[str]:
    """The files that are meant: a file is itself, a directory its *.toml files by name."""
    files: list[str] = []
    for place in places:
        path = FilePath(place)
        files += sorted(str(file) for file in path.glob("*.toml")) if path.is_dir() else [place]
    return files


class _Disk:
    """The stores of this process, which share their threads."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor, self._clock = reactor, WallClock()
        self.threads = StoreThreads(IReactorFromThreads(reactor), STORE_THREADS)

    def open_store(self, settings: Settings, tree: Tree, metrics: Metrics) -> tuple[StoreService, Committer]:
        """A node's store, opened. Raises `StoreRefused`."""
        directory = FilePath(settings.node.state_dir)
        store = StoreService(directory, tree, self._clock, self._reactor, metrics, threads=self.threads)
        store.open()
        return store, store.committer


class _Host:
    """The addresses of this host, followed once for all nodes that have the same interfaces."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._followed: dict[tuple[str, ...], HostAddresses] = {}

    def addresses(self, source: AddressSource, interfaces: Sequence[str]) -> HostAddresses:
        """What follows the addresses on these interfaces."""
        key = tuple(interfaces)
        if key not in self._followed:
            self._followed[key] = HostAddresses(source, key, self._reactor)
        return self._followed[key]


def system_world() -> tuple[World, StoreThreads]:
    """The real world: this process's reactor, on a clock that never steps; and the threads that stores share."""
    from twisted.internet import reactor  # noqa: TID251 - the one place

    make_monotonic(reactor)
    timed = cast("IReactorTime", reactor)
    disk = _Disk(timed)
    groups = GroupSockets(timed)
    world = World(
        reactor=timed,
        clock=WallClock(),
        datagrams=lambda _, metrics: SystemDatagrams(cast("Reactor", reactor), metrics, groups=groups),
        addresses=_Host(timed).addresses,
        open_store=disk.open_store,
        kept=lambda settings, name, make: kept(FilePath(settings.node.state_dir) / name, make),
        resolve=SystemResolver(cast("IReactorPluggableNameResolver", reactor).nameResolver),
        host=SystemHost(cast("Reactor", reactor)),
    )
    return world, disk.threads


class Nodes(MultiService):
    """All nodes of this process; tells the service manager when they are up. `threads` are those that their stores share."""

    def __init__(self, threads: StoreThreads) -> None:
        super().__init__()
        self._threads = threads

    def privilegedStartService(self) -> None:
        """What needs the rights that the process gives up. What cannot start ends the program, with one line that says why."""
        try:
            super().privilegedStartService()
        except CannotStart as reason:
            _end([str(reason)], EXIT_CANNOT_START)

    def startService(self) -> None:
        """Start all nodes. What cannot start ends the program, with one line that says why."""
        try:
            super().startService()
        except BaseException as reason:
            # The reactor never runs, and the process would not end before its threads do.
            for _ in self.services:
                self._threads.stop()
            if isinstance(reason, CannotStart | StoreRefused):
                _end([str(reason)], EXIT_CANNOT_START)
            raise
        notify("READY=1", os.environ)

    def stopService(self) -> Deferred[object]:
        """Stop all nodes."""
        notify("STOPPING=1", os.environ)
        return cast("Deferred[object]", super().stopService())


def makeService(options: Mapping[str, Any]) -> IService:
    """The service of `twistd m2m`: the nodes of the configuration. A store or a token file that is refused ends the program with 78."""
    _have_files(len(options["settings"]))
    world, threads = system_world()
    nodes = Nodes(threads)
    # A tree being loaded is only growing: the collector would walk it again and again, and find nothing.
    gc.disable()
    try:
        for settings in options["settings"]:
            make_node(settings, world).setServiceParent(nodes)
    except (StoreRefused, TokenFileError) as refused:
        _end([str(refused)], EXIT_CONFIG)
    except Malformed as fault:
        _end([fault.detail], EXIT_CONFIG)
    finally:
        gc.enable()
    # What is there now stays: later collections, which stop the reactor, need not look at it.
    gc.freeze()
    return nodes


def _have_files(nodes: int) -> None:
    """Take as many open files as the system lets this process have. The usual limit (1,024) is for programs that use select(2)."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if nodes * FILES_A_NODE > most:
        _log.warn(
            "{nodes} nodes have about {wanted} files open, and this process may have {most}: some will not get their sockets; "
            "raise LimitNOFILE= of its unit (ulimit -Hn), or run several processes",
            nodes=nodes,
            wanted=nodes * FILES_A_NODE,
            most=most,
        )


def _end(lines: Sequence[str], code: int) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"m2m: {line}\n")
    raise SystemExit(code)
