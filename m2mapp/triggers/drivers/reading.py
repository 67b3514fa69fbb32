"""Fetches operations and dependencies that stand elsewhere, anew for each change, so that changed rules take effect at the next one.

Bounded: so many URIs, so many in a collection, so many at a time. What cannot be fetched is told and left out (an operation), or does not
hold (a dependency). What is this node's own is fetched by the same requests, which then go by no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from m2mapp.formats.documents import JSON, load_document
from m2mapp.formats.rules.language import parse_rule
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer
from m2mapp.model.principal import Principal
from m2mapp.tree.unit import COLLECTION
from m2mapp.triggers.dependency import Dependency, Logic, checked_dependency, dependency_of
from m2mapp.triggers.drivers.running import Errand, Runner
from m2mapp.triggers.links import absolute
from m2mapp.triggers.operation import MAX_DEPENDENCIES, Operation, checked_operation, operation_of

MOST = 100
"""So many operations are fetched for one change at most."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What stands at a URI could not be had, and why."""

    uri: str
    why: str


class Reader:
    """Fetches what stands elsewhere."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def operations(self, uris: Sequence[str], errand: Errand) -> list[Operation | Lost]:
        """The operations at these URIs and in the collections at them. `errand.principal` is whose rights they have."""
        found: list[Operation | Lost] = []
        for uri, document in await self._documents(uris, errand, MOST):
            found.append(document if isinstance(document, Lost) else _operation(uri, document, errand.principal))
        return found

    async def dependencies(self, operation: Operation, errand: Errand) -> list[Dependency]:
        """The dependencies that an operation names by URI. One that cannot be had is necessary and never holds."""
        uris = [absolute(uri, operation.uri) for uri in operation.dependency_uris]
        found: list[Dependency] = []
        for uri, document in await self._documents(uris, errand, MAX_DEPENDENCIES):
            found.append(_lost_dependency(document) if isinstance(document, Lost) else _dependency(uri, document))
        return found

    async def _documents(self, uris: Sequence[str], errand: Errand, most: int) -> list[tuple[str, Mapping[str, object] | Lost]]:
        found: list[tuple[str, Mapping[str, object] | Lost]] = []
        for uri in uris:
            document = await self._document(uri, errand)
            if isinstance(document, Lost) or document.get("type") != COLLECTION:
                found.append((uri, document))
                continue
            below = [f"{uri}/{quote(name, safe='')}" for name in _names(document.get("children"))[: most - len(found)]]
            found.extend([(one, await self._document(one, errand)) for one in below])
        return found[:most]

    async def _document(self, uri: str, errand: Errand) -> Mapping[str, object] | Lost:
        answer = await self._runner.fetch(uri, errand, JSON)
        if isinstance(answer, Fault):
            return Lost(uri, answer.detail)
        if not answer.ok:
            return Lost(uri, f"{uri} answered {answer.code}")
        return _loaded(uri, answer)


def _names(children: object) -> list[str]:
    """The names of what stands in a collection."""
    found = [child.get("name") for child in children if isinstance(child, Mapping)] if isinstance(children, list) else []
    return [name for name in found if isinstance(name, str) and name]


def _loaded(uri: str, answer: Answer) -> Mapping[str, object] | Lost:
    try:
        return load_document(answer.payload, answer.content_type, uri)
    except Fault as fault:
        return Lost(uri, fault.detail)


def _operation(uri: str, document: Mapping[str, object], author: Principal) -> Operation | Lost:
    try:
        kept = checked_operation({name: value for name, value in document.items() if name != "name"})
    except Fault as fault:
        return Lost(uri, fault.detail)
    return operation_of(uri, kept, author)


def _dependency(uri: str, document: Mapping[str, object]) -> Dependency:
    try:
        kept = checked_dependency({name: value for name, value in document.items() if name != "name"})
    except Fault as fault:
        return _lost_dependency(Lost(uri, fault.detail))
    found = dependency_of(uri.rpartition("/")[2], kept)
    return Dependency(found.name, absolute(found.uri, uri), found.rule, found.logic)


def _lost_dependency(lost: Lost) -> Dependency:
    """Nobody knows whether it is necessary: to be safe it is."""
    return Dependency(lost.uri, lost.uri, parse_rule("value == null"), Logic.AND, lost.why)
