"""Bindings: what was given to which client, as a value and as a resource, and who has which address or prefix (RFC 9915, section 13.1).

Responsible for `/leases/<duid>/<iaid>` (addresses) and `/prefixes/<duid>-<iaid>` (delegated prefixes) as documents, and for the index
that finds who has a value. The tree is the only record; what is promised to units that are not committed yet is kept beside it. Not
responsible for which value is given (`pools`), nor for when bindings end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address, IPv6Network
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Final

from m2mapp.dhcpv6.numbers import INFINITY
from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.tree.node import REPORTS
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

LEASE, PREFIX = "lease", "prefix"
LEASES: Final[Path] = ("leases",)
PREFIXES: Final[Path] = ("prefixes",)
_HIDDEN: Final = ("preferredLifetime", "validLifetime", "first")
DECLINED: Final = "declined"
"""Stands in place of a DUID where the addresses are that nobody may have for now."""
Value = IPv6Address | IPv6Network
"""What is given: an address to a host, a prefix to a router."""


class State(Enum):
    """How a binding stands. A value that was declined is set aside: another host on the link has it.

    A reserved one is kept for a client that has nothing at the moment.
    """

    BOUND = "bound"
    DECLINED = "declined"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Client:
    """Whose binding it is: DUID, IAID, and whether the IA is for prefixes."""

    duid: bytes
    iaid: int
    for_prefix: bool
    path: Path = field(init=False, repr=False, compare=False)
    """Where the binding stands in the tree."""

    def __post_init__(self) -> None:
        duid, iaid = self.duid.hex(), str(self.iaid)
        object.__setattr__(self, "path", (*PREFIXES, f"{duid}-{iaid}") if self.for_prefix else (*LEASES, duid, iaid))


@dataclass(frozen=True, slots=True)
class Binding:
    """One value that a client has. Lifetimes are seconds from `given_ms`, the wall clock's milliseconds when they were last given.

    `interface` is where the client was heard, `client_address` from where; `bootstrap_uri` and `certificate` (its SHA-256) what it was
    told with the value. `old` are addresses that it may still use, of prefixes that were exchanged; `reserved` is the address that an
    operator wants it to have. `reconfigure`: the client has a key by which this node can tell it to ask again. `first_ms` is when it was
    given this value first, `renewed` how often since then.
    """

    client: Client
    value: Value
    preferred_s: int
    valid_s: int
    given_ms: int
    state: State = State.BOUND
    interface: str = ""
    client_address: str = ""
    bootstrap_uri: str | None = None
    certificate: str | None = None
    old: tuple[IPv6Address, ...] = ()
    reserved: IPv6Address | None = None
    reconfigure: bool = False
    first_ms: int = 0
    renewed: int = 0

    @property
    def path(self) -> Path:
        """Where it stands in the tree: an address that was declined stands by itself, since its client gets another."""
        return (*LEASES, DECLINED, str(self.value)) if self.state is State.DECLINED else self.client.path

    @property
    def values(self) -> frozenset[Value]:
        """All that nobody else may be given."""
        kept = () if self.reserved is None or self.state is State.DECLINED else (self.reserved,)
        return frozenset((self.value, *self.old, *kept))

    def ended(self) -> Binding | None:
        """What is left of it when the client has nothing any more: a reservation, or nothing."""
        if self.reserved is None or self.state is State.DECLINED:
            return None
        return Binding(self.client, self.reserved, 0, INFINITY, self.given_ms, State.RESERVED, reserved=self.reserved)

    def write(self) -> Write:
        """The write that makes it durable."""
        client = self.client
        attributes: dict[str, object] = {
            "duid": client.duid.hex(),
            "iaid": client.iaid,
            "prefix" if client.for_prefix else "address": value_text(self.value),
            "state": self.state.value,
            "givenAt": rfc3339(self.given_ms),
            "preferredUntil": until(self.given_ms, self.preferred_s),
            "validUntil": until(self.given_ms, self.valid_s),
            "preferredLifetime": self.preferred_s,
            "validLifetime": self.valid_s,
            "bootstrapURI": self.bootstrap_uri,
            "certificate": self.certificate,
            "interface": self.interface,
            "clientAddress": self.client_address,
        }
        if self.state is State.BOUND:
            attributes |= {"first": self.first_ms, "renewed": self.renewed}
        if self.old:
            attributes["deprecated"] = [str(address) for address in self.old]
        if self.reserved is not None:
            attributes["reserved"] = str(self.reserved)
        if self.reconfigure:
            attributes["reconfigure"] = True
        return Write(self.path, PREFIX if client.for_prefix else LEASE, attributes)


def value_text(value: Value) -> str:
    """A value as text. The system's library makes it of an address, and an address of it, in a tenth of the time of Python's."""
    return inet_ntop(AF_INET6, value.packed) if isinstance(value, IPv6Address) else str(value)


def binding_of(resource: Resource) -> Binding:
    """The binding that a resource holds."""
    given = resource.attributes
    for_prefix = resource.type == PREFIX
    old, reserved = given.get("deprecated"), _text(given, "reserved")
    text = str(given["prefix" if for_prefix else "address"])
    return Binding(
        Client(bytes.fromhex(str(given["duid"])), _number(given, "iaid"), for_prefix),
        IPv6Network(text) if for_prefix else IPv6Address(inet_pton(AF_INET6, text)),
        _number(given, "preferredLifetime"),
        _number(given, "validLifetime"),
        resource.modified_ms,
        State(given["state"]),
        str(given["interface"]),
        str(given["clientAddress"]),
        _text(given, "bootstrapURI"),
        _text(given, "certificate"),
        tuple(IPv6Address(address) for address in old) if isinstance(old, list | tuple) else (),
        None if reserved is None else IPv6Address(reserved),
        given.get("reconfigure") is True,
        _number(given, "first") if "first" in given else resource.modified_ms,
        _number(given, "renewed") if "renewed" in given else 0,
    )


class Bindings:
    """The bindings of one node, as they will be once all that is pending is done; and which values nobody has.

    `on_moved` is called when an address came to somebody, or went. `settle` commits what was promised and waits for company: who writes a
    binding that is not a client's own wish calls it first, so that this is not undone by what was decided before it. `freed` grows
    whenever a value is free again.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        # Who has each value; None where it was declined.
        self._holder: dict[Value, Client | None] = {}
        self._promised: dict[Value, Client] = {}
        self._of_duid: dict[bytes, int] = {}
        # Clients of a DUID to whom something is promised, and who have no binding yet.
        self._coming: dict[bytes, set[Client]] = {}
        # What is on its way to the tree, so that it need not be read from there: by path, with the attributes that stand for it.
        self._written: dict[Path, tuple[Document, Binding]] = {}
        self.on_moved: Callable[[], None] = lambda: None
        self.settle: Callable[[], None] = lambda: None
        self.freed = 0

    def find(self, client: Client) -> Binding | None:
        """What a client has, or was promised, or None."""
        written = self._written.get(client.path)
        if written is not None:
            return written[1]
        resource = self._tree.expected(client.path)
        return None if resource is None else binding_of(resource)

    def is_free_for(self, client: Client, value: Value) -> bool:
        """Whether a client may be given a value: nobody else has it or was promised it, and it was not declined."""
        holder, promised = self._holder.get(value, client), self._promised.get(value, client)
        return (holder is client or holder == client) and (promised is client or promised == client)

    def count(self, duid: bytes) -> int:
        """How many bindings a DUID has, with those that are promised to it, and the addresses that it declined lately."""
        return self._of_duid.get(duid, 0) + len(self._coming.get(duid, ()))

    def __len__(self) -> int:
        return len(self._holder) + len(self._promised)

    def holds(self, address: str) -> bool:
        """Whether a client has this address (text, a zone does not count)."""
        try:
            return self._holder.get(IPv6Address(address.partition("%")[0])) is not None
        except ValueError:
            return False

    def end(self, path: Path) -> Remove | Write:
        """What ends the binding at a path: its reservation stays, and the last one of its DUID takes the DUID's collection along."""
        resource = self._tree.expected(path)
        left = binding_of(resource).ended() if resource is not None and resource.type in (LEASE, PREFIX) else None
        if left is not None:
            return left.write()
        above = path[:-1]
        if len(above) == len(LEASES) or len(self._tree.children(above, limit=2)) > 1:
            return Remove(path)
        return Remove(path if self._is_coming(above) else above)

    def write(self, binding: Binding) -> Write:
        """The write that makes a binding durable. It is entered, or `dropped`, afterwards."""
        write = binding.write()
        self._written[write.path] = write.attributes, binding
        return write

    def left_empty(self, path: Path) -> Path | None:
        """The collection of a DUID from which the binding at a path went, where that is empty now and nothing is on its way to it.

        `end` takes it along, unless two ended at once, or an operator removed the binding.
        """
        above = path[:-1]
        if len(above) == len(LEASES) or self._tree.find(above) is None or self._tree.children(above, limit=1):
            return None
        return None if self._is_coming(above) else above

    def _is_coming(self, above: Path) -> bool:
        """Whether something new is on its way into the collection of a DUID."""
        coming = self._coming.get(bytes.fromhex(above[-1]), ()) if above[-1] != DECLINED else ()
        return any(not client.for_prefix for client in coming)

    def promise(self, binding: Binding) -> None:
        """Values are given by a unit that is about to be committed: nobody else gets them."""
        if binding.state is not State.DECLINED and self._tree.expected(binding.path) is None:
            self._coming.setdefault(binding.client.duid, set()).add(binding.client)
        for value in binding.values:
            self._promised[value] = binding.client

    def dropped(self, binding: Binding) -> None:
        """The unit was not committed: the values are free again, unless their client had them before."""
        self._written.pop(binding.path, None)
        self._came(binding.client)
        self.freed += 1
        for value in binding.values:
            self._promised.pop(value, None)

    def clear(self) -> None:
        """Forget everything: the tree is not followed any more."""
        self._holder.clear()
        self._promised.clear()
        self._of_duid.clear()
        self._coming.clear()
        self._written.clear()
        self.freed += 1

    def entered(self, resource: Resource) -> Binding:
        """A binding is in the tree: which."""
        attributes, binding = self._written.get(resource.path, (None, None))
        if attributes is resource.attributes:
            del self._written[resource.path]
        if binding is None or attributes is not resource.attributes:
            binding = binding_of(resource)
        self._came(binding.client)
        bound = binding.state is not State.DECLINED
        for value in binding.values:
            self._promised.pop(value, None)
            known = value in self._holder
            if known and self._holder[value] is None and value == binding.reserved != binding.value:
                continue  # It was declined: whoever it is reserved for has something else for now.
            self._holder[value] = binding.client if bound else None
            if not known:
                self.on_moved()
        duid = binding.client.duid
        self._of_duid[duid] = self._of_duid.get(duid, 0) + 1
        return binding

    def _came(self, client: Client) -> None:
        """What was promised to a client is there, or will not be."""
        coming = self._coming.get(client.duid)
        if coming is not None:
            coming.discard(client)
            if not coming:
                del self._coming[client.duid]

    def left(self, resource: Resource, after: Resource | None = None) -> None:
        """A binding is not in the tree any more, or not as it was: `after` stands there now."""
        binding = binding_of(resource)
        kept = binding_of(after).values if after is not None and after.type == resource.type else frozenset[Value]()
        held_by = binding.client if binding.state is not State.DECLINED else None
        for value in binding.values - kept:
            if value in self._holder and self._holder[value] == held_by:
                del self._holder[value]
                self.freed += 1
                self.on_moved()
        duid = binding.client.duid
        self._of_duid[duid] -= 1
        if not self._of_duid[duid]:
            del self._of_duid[duid]


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", f"a binding ({name})", ("DELETE", "GET"))


def _describe(resource: Resource, tree: Tree) -> Document:
    shown = {name: value for name, value in resource.attributes.items() if name not in _HIDDEN}
    first = resource.attributes.get("first")
    return {**shown, "firstGivenAt": rfc3339(first)} if isinstance(first, int) else shown


def _describe_lease(resource: Resource, tree: Tree) -> Document:
    """As a prefix's, and since when the bootstrap server is known to have the report of the device as it is now (`REPORTS`)."""
    report = tree.find((*REPORTS, str(resource.attributes["duid"])))
    waits = report is None or report.attributes.get("queued") is not None
    return {**_describe(resource, tree), "reported": None if waits or report is None else report.attributes.get("reportedAt")}


_METHODS: Final = frozenset({Method.GET, Method.DELETE})
BINDING_TYPES: Final = (
    ResourceType(LEASE, (*LEASES, "*", "*"), _refuse, _describe_lease, methods=_METHODS),
    ResourceType(PREFIX, (*PREFIXES, "*"), _refuse, _describe, methods=_METHODS),
)
"""The types that a node with a DHCPv6 role has. An operator may end a binding: its value is free from then on.

What an operator writes to `/leases` goes by `reservations`.
"""


def until(given_ms: int, lifetime_s: int) -> str | None:
    """The end of a lifetime as people read it; None for one without end (RFC 9915, section 7.7)."""
    return None if lifetime_s == INFINITY else rfc3339(given_ms + lifetime_s * 1000)


def _number(given: Mapping[str, object], name: str) -> int:
    value = given[name]
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r}")
    return value


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
