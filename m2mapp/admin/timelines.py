"""The timeline of a device: its steps from the address that it was given to its answers in groups, and the one that did not come. Pure.

Responsible for what each step says and for what a person can do where it is missing. What there is of a device is found by `devices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from m2mapp.formats.documents import rfc3339
from m2mapp.tree.unit import Document

JOINED = frozenset({"joined", "proven"})
ONE_BY_ONE = "one by one"
"""How a member stands that has no group to join."""
_ADVICE = {
    "reserved": "An address is kept for it, and it has not asked for one: look whether it is on, on this link, and asks by DHCPv6.",
    "bootstrap": "This node knows no bootstrap address, and so could tell it none: the page Addresses says which sources there are.",
    "reported": "The bootstrap server has not confirmed the report of it: look whether this node reaches that server, and at its [report].",
    "registered": "It has its address and has not registered here: look whether it is on, and whether the bootstrap server sent it here.",
    "joining": "It is told to join and has not confirmed; until then it is asked by itself. Look whether it takes /mcGroups.",
    "join": "It was told to join in vain, and is asked by itself: look whether it is on, and at the group's page for what it answered.",
    "silent": "It was asked in a group and has not answered: look whether it is on, and whether it still has the address above.",
}


class Mark(Enum):
    """How a step stands; the value is its grade on the page. `OPEN`: it is not expected, or nobody knows."""

    DONE = "good"
    WAITING = "warning"
    MISSING = "bad"
    OPEN = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: since when it is as it is (RFC 3339, empty where that is not known), more words, and what to do where it is missing."""

    name: str
    mark: Mark
    at: str = ""
    text: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a group knows of a member: when it was last heard, and since when it is silent, both RFC 3339 or empty."""

    last: str = ""
    silent_since: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a device at a gateway. `groups`: how it stands in each, by the group's name.

    `report`: what is reported of it, None where this node reports nothing; `bootstrap`: its steps as a bootstrap server on this node has
    them; `heard`: what groups know of its answers, where that was asked.
    """

    name: str
    duid: str = ""
    leases: tuple[Document, ...] = ()
    registered_ms: int | None = None
    seen_ms: int | None = None
    addresses: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    report: Document | None = None
    bootstrap: tuple[Step, ...] = ()
    heard: tuple[Heard, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """A device's steps in their order."""

    found: Found
    steps: tuple[Step, ...]

    @property
    def missing(self) -> Step | None:
        """The first step that did not come, or that is awaited."""
        return next((step for step in self.steps if step.mark in (Mark.MISSING, Mark.WAITING)), None)

    @property
    def since(self) -> str:
        """Since when that is missing: since when it says, or when the last step before it came. Empty where that is not known."""
        missing = self.missing
        if missing is None or missing.at:
            return missing.at if missing is not None else ""
        return max((step.at for step in self.steps[: self.steps.index(missing)]), default="")


def timeline(found: Found) -> Timeline:
    """The timeline of a device at its gateway."""
    bound = [lease for lease in found.leases if lease.get("state") == "bound"]
    steps = [_given(found, bound)]
    if bound:
        steps.append(_told(bound))
    if found.report is not None and bound:
        steps.append(_reported(found.report))
    steps += found.bootstrap
    steps.append(_registered(found, bound))
    if found.registered_ms is not None:
        steps += [_joined(found.groups), _answered(found)]
    return Timeline(found, tuple(steps))


def bootstrap_steps(chain: object, missing: object) -> tuple[Step, ...]:
    """The steps of a device as the bootstrap server tells them (`chain` and `missing` of `/devices/<name>`)."""
    links = [link for link in chain if isinstance(link, Mapping)] if isinstance(chain, list) else []
    lacks = missing if isinstance(missing, Mapping) else {}
    return tuple(_link(link, lacks) for link in links)


def _link(link: Mapping[str, object], lacks: Mapping[str, object]) -> Step:
    name, at = str(link.get("step")), link.get("at")
    if at is not None:
        ended = f"until {link['ended']}" if "ended" in link else ""
        return Step(name, Mark.DONE, str(at), ended)
    if lacks.get("step") == name:
        return Step(name, Mark.MISSING, text="did not come", advice=str(lacks.get("do", "")))
    return Step(name, Mark.OPEN, text="not seen")


def _given(found: Found, bound: Iterable[Document]) -> Step:
    name = "address given"
    lease = next(iter(bound), None)
    if lease is not None:
        renewed = lease.get("renewed")
        text = f"{lease['address']} on {lease.get('interface')}, asked from {lease.get('clientAddress')}"
        return Step(
            name, Mark.DONE, str(lease.get("firstGivenAt") or lease["givenAt"]), text + (f", renewed {renewed} times" if renewed else "")
        )
    if found.leases:
        return Step(name, Mark.MISSING, text=f"{found.leases[0].get('address')} is reserved for it", advice=_ADVICE["reserved"])
    addresses = ", ".join(found.addresses)
    return Step(name, Mark.OPEN, text=f"not by this node: {addresses}" if addresses else "not by this node")


def _told(bound: Iterable[Document]) -> Step:
    lease = next(iter(bound))
    uri = lease.get("bootstrapURI")
    if uri:
        return Step("bootstrap address told", Mark.DONE, str(lease["givenAt"]), str(uri))
    return Step("bootstrap address told", Mark.MISSING, text="the node knew none", advice=_ADVICE["bootstrap"])


def _reported(report: Document) -> Step:
    at, waits = report.get("reportedAt"), report.get("queued") is not None
    if at is not None and not waits:
        return Step("reported to the bootstrap server", Mark.DONE, str(at))
    why = report.get("refused")
    text = f"it was refused: {why}" if why else "it waits to be sent" if waits else "not yet"
    return Step("reported to the bootstrap server", Mark.MISSING if why else Mark.WAITING, text=text, advice=_ADVICE["reported"])


def _registered(found: Found, bound: list[Document]) -> Step:
    if found.registered_ms is not None:
        return Step("registered", Mark.DONE, rfc3339(found.registered_ms), f"as {found.name}")
    if not bound:
        return Step("registered", Mark.OPEN, text="not yet")
    return Step("registered", Mark.MISSING, text="it is not", advice=_ADVICE["registered"])


def _joined(groups: Mapping[str, str]) -> Step:
    name = "in groups"
    if not groups:
        return Step(name, Mark.OPEN, text="it is in none")
    failed = [group for group, state in groups.items() if state in ("failed", "unsupported")]
    pending = [group for group, state in groups.items() if state == "pending"]
    text = ", ".join(f"{group}: {state}" for group, state in groups.items())
    if failed:
        return Step(name, Mark.MISSING, text=text, advice=_ADVICE["join"])
    if pending:
        return Step(name, Mark.WAITING, text=text, advice=_ADVICE["joining"])
    return Step(name, Mark.DONE, text=text)


def _answered(found: Found) -> Step:
    name = "answered in a group"
    last = max((heard.last for heard in found.heard), default="")
    silent = max((heard.silent_since for heard in found.heard), default="")
    if silent:
        text = "silent since then" if last else "silent since then, and never heard"
        return Step(name, Mark.MISSING, silent, text, _ADVICE["silent"])
    if last:
        return Step(name, Mark.DONE, last)
    if "proven" in found.groups.values():
        return Step(name, Mark.DONE, text="to its multicast address")
    return Step(name, Mark.OPEN, text="nobody has asked since the start" if found.groups else "it is in none")
