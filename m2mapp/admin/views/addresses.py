"""Addresses: prefixes, leases, reservations, and where the bootstrap address came from (spec section 8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request
from m2mapp.tree.node import NODE
from m2mapp.tree.paths import check_path
from m2mapp.tree.unit import Resource

LEASES: Path = ("leases",)
PREFIXES: Path = ("prefixes",)
_AT = "/admin/addresses"
_LEASE = "lease"
_SHOWN = 100
_PREFIXES_SHOWN = 200
_TAKEN_WITHIN_S = 30.0
_PARTS = 2
"""A lease is named by a DUID and an IAID."""
SOURCES = (
    ("file", "the configuration file"),
    ("dhcpv6", "DHCPv6, from the server upstream"),
    ("router-advertisement", "router advertisements upstream"),
    ("hncp", "the home network protocol (HNCP)"),
)
"""The sources of the bootstrap address by their names in `/node`, the one that counts before the others first."""


def addresses_page() -> Page:
    """The page of addresses; `/admin/addresses/<duid>/<iaid>` has one lease."""
    return Page("addresses", "Addresses", _show, {"reserve": _reserve, "end": _end})


async def _show(visit: Visit) -> Answer:
    return await _one(visit) if visit.rest else await _all(visit)


async def _all(visit: Visit) -> Answer:
    wanted, after = visit.query("q").strip().lower(), visit.query("after")
    found = (lease for lease in _leases(visit, after) if wanted in _searched(lease))
    leases = list(islice(found, _SHOWN + 1))
    more = len(leases) > _SHOWN
    del leases[_SHOWN:]
    node = await visit.document(NODE) if visit.may_read(NODE) else {}
    values: Mapping[str, object] = {
        "bootstrap": node.get("bootstrap"),
        "warnings": node.get("warnings", []),
        "sources": SOURCES,
        "prefixes": visit.children(PREFIXES, limit=_PREFIXES_SHOWN) if visit.may_read(PREFIXES) else [],
        "leases": leases,
        "next": _key(leases[-1]) if more else None,
        "wanted": visit.query("q"),
        "mayReserve": node.get("bootstrap") is not None and visit.may_write((*LEASES, "x", "1")),
    }
    return Shown("addresses.html", values)


def _leases(visit: Visit, after: str) -> Iterator[Resource]:
    """The leases behind a key, by DUID and IAID, addresses that were declined among them."""
    if not visit.may_read(LEASES):
        return
    duid, _, iaid = after.partition("/")
    for one in visit.node.tree.children((*LEASES, duid), iaid) if duid else ():
        if one.type == _LEASE:
            yield one
    last: str | None = duid or None
    while owners := visit.node.tree.children(LEASES, last, _SHOWN):
        for owner in owners:
            yield from (one for one in visit.node.tree.children(owner.path) if one.type == _LEASE)
        last = owners[-1].path[-1]


def _key(lease: Resource) -> str:
    return "/".join(lease.path[1:])


def _searched(lease: Resource) -> str:
    given = lease.attributes
    return " ".join(str(given.get(name)) for name in ("duid", "address", "reserved", "clientAddress", "interface", "state")).lower()


# One lease.


def _path(visit: Visit) -> Path:
    if len(visit.rest) != _PARTS:
        raise NoSuchResource(path_text((*LEASES, *visit.rest)))
    return check_path((*LEASES, *visit.rest))


async def _one(visit: Visit) -> Answer:
    path = _path(visit)
    lease = await visit.document(path)
    node = await visit.document(NODE) if visit.may_read(NODE) else {}
    try:
        history = await visit.document((*path, "history"))
    except NoSuchResource:
        history = {}
    values: Mapping[str, object] = {
        "path": path,
        "lease": lease,
        "bootstrap": node.get("bootstrap") or {},
        "history": history,
        "mayReserve": visit.may_write(path),
    }
    return Shown("lease.html", values, str(lease.get("address")))


# What can be done.


async def _reserve(visit: Visit) -> Answer:
    """An address is kept for a device: done when that is on disk. Where it can be told to ask again, it has it when its lease says so."""
    path = check_path((*LEASES, visit.field("duid").strip().lower(), visit.field("iaid").strip()))
    await visit.write_document(Method.PUT, path, {"address": visit.field("address").strip()})
    there = visit.find(path)
    if there is None:
        raise NoSuchResource(path_text(path))
    kept, has = str(there.attributes.get("reserved")), _bound(there)
    told = has is not None and has != kept and there.attributes.get("reconfigure") is True
    detail = (
        "it gets it when it asks" if has is None else "it has it" if has == kept else "" if told else f"it has {has} until it asks again"
    )
    visit.done(f"{kept} is reserved for {path[1]}", detail)
    if told:
        taken = visit.when(
            path, lambda lease: "its lease says so" if lease is not None and _bound(lease) == kept else None, _TAKEN_WITHIN_S
        )
        visit.asked_for(f"{path[1]} is told to ask again, and to take {kept}", taken)
    return Redirect(_AT)


def _bound(lease: Resource) -> str | None:
    """The address that a device has by a lease."""
    return str(lease.attributes.get("address")) if lease.attributes.get("state") == "bound" else None


async def _end(visit: Visit) -> Answer:
    path = check_path((*LEASES, visit.field("duid"), visit.field("iaid")))
    lease = visit.find(path)
    if lease is None:
        raise NoSuchResource(path_text(path))
    await visit.send(Request(Method.DELETE, path))
    was = "the reservation of" if lease.attributes.get("state") == "reserved" else "the lease of"
    visit.done(f"{was} {lease.attributes.get('address')} is deleted", "the address is free")
    return Redirect(_AT)
