"""What a node shows by HTTP: the edge with its tokens, the pages for people, and who asks without a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from twisted.application.service import Service
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool

from m2mapp.admin.service import AdminService
from m2mapp.admin.visit import AdminNode
from m2mapp.http.limits import HttpLimits
from m2mapp.http.lines import Feed
from m2mapp.http.service import HttpParts, HttpService
from m2mapp.http.settings import HttpSettings
from m2mapp.http.tokens import Tokens, load_tokens
from m2mapp.model.identifiers import Path
from m2mapp.model.principal import NOBODY, Principal, Right
from m2mapp.net.addresses import OnLink
from m2mapp.net.lag import LagMonitor
from m2mapp.store.threads import RunBlocking

_T = TypeVar("_T")


def http_front(settings: HttpSettings, node: AdminNode, anonymous: Callable[[str], Principal], feeds: Mapping[Path, Feed]) -> list[Service]:
    """The services of the HTTP role. `node` is what the pages stand on. Raises `TokenFileError`, or `OSError`."""
    limits = HttpLimits()
    tokens = Tokens(load_tokens(node.state_dir, settings.tokens), node.reactor, limits.failed_sign_ins, anonymous)
    admin = AdminService(node, tokens)
    parts = HttpParts(
        handler=admin.recorder,
        tree=node.tree,
        journals=node.journals,
        tokens=tokens,
        metrics=node.metrics,
        clock=node.clock,
        unready=node.unready,
        warnings=node.warnings,
        limits=limits,
        feeds=feeds,
        site=admin.site,
    )
    return [LagMonitor(node.reactor, node.metrics), admin, HttpService(node.reactor, settings.listen, parts)]


def blocking(reactor: IReactorTime) -> RunBlocking:
    """Runs calls in the threads that the reactor has for all (it begins them when it runs)."""

    def run(call: Callable[[], _T], /) -> Deferred[_T]:
        threads = cast(ReactorBase, reactor)
        done: Deferred[_T] = deferToThreadPool(threads, threads.getThreadPool(), call)
        return done

    return run


def anonymous_principals(addresses: OnLink, interface_index: Callable[[str], int]) -> Callable[[str], Principal]:
    """Who asks by HTTP without a token, by the source address: a neighbour may discover what there is (spec section 10), others nothing."""
    neighbour = Principal("neighbour", frozenset({Right.DISCOVER}))

    def anonymous(source: str) -> Principal:
        host, _, zone = source.partition("%")
        try:
            index = int(zone or 0) if zone.isdecimal() or not zone else interface_index(zone)
        except OSError:
            return NOBODY
        return neighbour if addresses.contains((host, 0, 0, index) if ":" in host else (host, 0)) else NOBODY

    return anonymous
