"""What clients had: one entry of a journal for each address or prefix that somebody had, when that is over. Pure.

Responsible for the entries and for how they are shown. Renewals are joined: the binding counts them, and while it stands it is the newest
part of its own history, so that giving and renewing write nothing more. An entry is committed with what ends the binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

from m2mapp.dhcpv6.binding import LEASE, LEASES, PREFIX, PREFIXES, Binding, State, binding_of, value_text
from m2mapp.dhcpv6.uplink import UPLINK_PREFIX
from m2mapp.formats.documents import rfc3339
from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import HISTORY, Append, Document, Entry, Remove, Resource, Write

NAME: Final = "history"
"""The last segment of the paths at which it is read."""
MOST_SHOWN: Final = 100


class Ending(Enum):
    """How it ended. `EXCHANGED`: the client got another value; `REMOVED`: by an operator; `OVER`: the uplink has the prefix no more."""

    RELEASED = "released"
    DECLINED = "declined"
    EXPIRED = "expired"
    EXCHANGED = "exchanged"
    REMOVED = "removed"
    OVER = "over"


def journal_of(root: Path) -> str:
    """The journal of `/leases` or of `/prefixes`."""
    return f"{HISTORY}/{root[0]}"


def period_of(binding: Binding) -> Document:
    """A binding as a part of its client's history: from when it was first given."""
    return {
        "name": "/".join(binding.client.path[1:]),
        "duid": binding.client.duid.hex(),
        "iaid": binding.client.iaid,
        "prefix" if binding.client.for_prefix else "address": value_text(binding.value),
        "givenAt": rfc3339(binding.first_ms),
        "renewed": binding.renewed,
        "lastGivenAt": rfc3339(binding.given_ms),
        "bootstrapURI": binding.bootstrap_uri,
        "interface": binding.interface,
        "clientAddress": binding.client_address,
    }


def ended(binding: Binding, how: Ending) -> tuple[Append, ...]:
    """The entry for a binding that ends so; none for what no client has, an address that was set aside or is reserved."""
    if binding.state is not State.BOUND:
        return ()
    root = PREFIXES if binding.client.for_prefix else LEASES
    return (Append(journal_of(root), {**period_of(binding), "ended": how.value}),)


def all_ended(resources: Iterable[Resource], how: Ending) -> tuple[Append, ...]:
    """The entries for all bindings among the resources."""
    return tuple(append for one in resources if one.type in (LEASE, PREFIX) for append in ended(binding_of(one), how))


def uplink_ended(before: Sequence[Resource], changes: Sequence[Write | Remove]) -> tuple[Append, ...]:
    """The entries for prefixes of the uplink that changes take from the tree, wherever these stood."""
    new = {change.path: change.attributes["prefix"] if isinstance(change, Write) else None for change in changes}
    had = {one.attributes["prefix"]: one for one in before if one.type == UPLINK_PREFIX}
    kept = {new.get(one.path, one.attributes["prefix"]) for one in before} | set(new.values())
    return tuple(
        Append(
            journal_of(PREFIXES),
            {
                "name": one.path[-1],
                "prefix": prefix,
                "from": one.attributes["from"],
                "lastGivenAt": one.attributes["givenAt"],
                "bootstrapURI": one.attributes["bootstrapURI"],
                "ended": Ending.OVER.value,
            },
        )
        for prefix, one in had.items()
        if prefix not in kept
    )


def document(entries: Sequence[Entry], now: Resource | None) -> Document:
    """What is over, the newest first, and as `current` what the client has still; `now` is the resource of that, where there is one."""
    has = binding_of(now) if now is not None and now.type in (LEASE, PREFIX) else None
    current = period_of(has) if has is not None and has.state is State.BOUND else None
    return {"current": current, "periods": [{**entry.body, "endedAt": rfc3339(entry.at_ms)} for entry in reversed(entries)]}
