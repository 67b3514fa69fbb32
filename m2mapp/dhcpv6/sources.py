"""Where the address of the bootstrap service comes from, and which of several sources counts.

Responsible for the order of the sources and for what `/node` says of them. Pure. How each is listened to is its driver's;
why the order is as it is: docs/decisions/2026-11-22-bootstrap-sources.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, fingerprint
from m2mapp.formats.documents import rfc3339
from m2mapp.tree.unit import Document


class Source(Enum):
    """The sources, the one that counts before the others first: what an operator wrote, then by who is known to speak for the network."""

    FILE = "file"
    DHCPV6 = "dhcpv6"
    ROUTER = "router-advertisement"
    HNCP = "hncp"


@dataclass(frozen=True, slots=True)
class Learned:
    """What one source says: the service, who said it, and since when, in milliseconds of the wall clock (None: since the start)."""

    bootstrap: Bootstrap
    origin: str
    since_ms: int | None = None


class Sources:
    """What each source says at the moment. `listen` takes a function that is called when another service counts than before."""

    def __init__(self, file: Bootstrap, now_ms: Callable[[], int]) -> None:
        """`file` is what the configuration file names; its certificate is of the service that counts, whichever that is."""
        self._file, self._now_ms = file, now_ms
        self._learned: dict[Source, Learned] = {}
        if file.uri is not None:
            self._learned[Source.FILE] = Learned(file, "the configuration file")
        self._in_force = self._find()
        self._listeners: dict[Callable[[], None], None] = {}

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call this whenever `in_force` is another than before."""
        self._listeners[on_change] = None

    def learn(self, source: Source, bootstrap: Bootstrap, origin: str) -> None:
        """A source says this from now on; without a URI it says nothing."""
        before, known = self._in_force, self._learned.get(source)
        if bootstrap.uri is None:
            self._learned.pop(source, None)
        elif known is None or (known.bootstrap, known.origin) != (bootstrap, origin):
            self._learned[source] = Learned(bootstrap, origin, self._now_ms())
        self._in_force = self._find()
        if self._in_force != before:
            for on_change in list(self._listeners):
                on_change()

    def counts(self) -> Source | None:
        """The source that counts: the first, in their order, that says anything."""
        return next((source for source in Source if source in self._learned), None)

    def in_force(self) -> Bootstrap:
        """The service that devices are told of: asked for with every message of theirs."""
        return self._in_force

    def _find(self) -> Bootstrap:
        """The service of the source that counts.

        A learned certificate goes with the URI that was learned with it only: a device talks to no server that shows another than it was
        given.
        """
        first = self.counts()
        uri = None if first is None else self._learned[first].bootstrap.uri
        told = (self._learned[source].bootstrap for source in Source if source in self._learned)
        certificates = (each.certificate for each in told if each.uri == uri and each.certificate)
        return Bootstrap(uri, self._file.certificate or next(certificates, None))

    def document(self) -> Document:
        """What `/node` says: the service in force, its source, and what each source says."""
        first, told = self.counts(), self._in_force
        return {
            "uri": told.uri,
            "certificate": fingerprint(told.certificate),
            "source": None if first is None else first.value,
            "sources": {source.value: _shown(self._learned[source]) for source in Source if source in self._learned},
        }


def _shown(learned: Learned) -> Document:
    return {
        "uri": learned.bootstrap.uri,
        "certificate": fingerprint(learned.bootstrap.certificate),
        "from": learned.origin,
        "since": None if learned.since_ms is None else rfc3339(learned.since_ms),
    }
