"""Bindings: what was given to which client, as a value and as a resource, and who has which address or prefix (RFC 9915, section 13.1).

Responsible for `/leases/<duid>/<iaid>` (addresses) and `/prefixes/<duid>-<iaid>` (delegated prefixes) as documents, and for the index
that finds who has a value. The tree is the only record; what is promised to units that are not committed yet is kept beside it. Not
responsible for which value is given (`pools`), nor for when bindings end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Remove, Resource, Write

LEASE, PREFIX = "lease", "prefix"
LEASES: Final[Path] = ("leases",)
PREFIXES: Final[Path] = ("prefixes",)
DECLINED: Final = "declined"
"""Stands in place of a DUID where the addresses are that nobody may have for now."""
Value = IPv6Address | IPv6Network
"""What is given: an address to a host, a prefix to a router."""


class State(Enum):
    """How a binding stands. A value that was declined is set aside: another host on the link has it."""

    BOUND = "bound"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Client:
    """Whose binding it is: DUID, IAID, and whether the IA is for prefixes."""

    duid: bytes
    iaid: int
    for_prefix: bool

    @property
    def path(self) -> Path:
        """Where the binding stands in the tree."""
        if self.for_prefix:
            return (*PREFIXES, f"{self.duid.hex()}-{self.iaid}")
        return (*LEASES, self.duid.hex(), str(self.iaid))


@dataclass(frozen=True, slots=True)
class Binding:
    """One value that a client has. Lifetimes are seconds from `given_ms`, the wall clock's milliseconds when they were last given.

    `interface` is where the client was heard, `client_address` from where; `bootstrap_uri` and `certificate` (its SHA-256) what it was
    told with the value.
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

    @property
    def path(self) -> Path:
        """Where it stands in the tree: an address that was declined stands by itself, since its client gets another."""
        return self.client.path if self.state is State.BOUND else (*LEASES, DECLINED, str(self.value))

    def write(self) -> Write:
        """The write that makes it durable."""
        client = self.client
        attributes: dict[str, object] = {
            "duid": client.duid.hex(),
            "iaid": client.iaid,
            "prefix" if client.for_prefix else "address": str(self.value),
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
        return Write(self.path, PREFIX if client.for_prefix else LEASE, attributes)


def binding_of(resource: Resource) -> Binding:
    """The binding that a resource holds."""
    given = resource.attributes
    for_prefix = resource.type == PREFIX
    text = str(given["prefix" if for_prefix else "address"])
    return Binding(
        Client(bytes.fromhex(str(given["duid"])), _number(given, "iaid"), for_prefix),
        IPv6Network(text) if for_prefix else IPv6Address(text),
        _number(given, "preferredLifetime"),
        _number(given, "validLifetime"),
        resource.modified_ms,
        State(given["state"]),
        str(given["interface"]),
        str(given["clientAddress"]),
        _text(given, "bootstrapURI"),
        _text(given, "certificate"),
    )


class Bindings:
    """The bindings of one node, as they will be once all that is pending is done; and which values nobody has."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        # Who has each value; None where it was declined.
        self._holder: dict[Value, Client | None] = {}
        self._promised: dict[Value, Client] = {}
        self._of_duid: dict[bytes, int] = {}

    def find(self, client: Client) -> Binding | None:
        """What a client has, or None."""
        resource = self._tree.expected(client.path)
        return None if resource is None else binding_of(resource)

    def is_free_for(self, client: Client, value: Value) -> bool:
        """Whether a client may be given a value: nobody else has it or was promised it, and it was not declined."""
        return self._holder.get(value, client) == client and self._promised.get(value, client) == client

    def count(self, duid: bytes) -> int:
        """How many bindings a DUID has."""
        return self._of_duid.get(duid, 0)

    def __len__(self) -> int:
        return len(self._holder) + len(self._promised)

    def removal(self, path: Path) -> Remove:
        """What ends the binding at a path; the last one of its DUID takes the DUID's collection along."""
        above = path[:-1]
        if len(above) == len(LEASES) or len(self._tree.children(above, limit=2)) > 1:
            return Remove(path)
        return Remove(path if any(client.path[:-1] == above for client in self._promised.values()) else above)

    def promise(self, binding: Binding) -> None:
        """A value is given by a unit that is about to be committed: nobody else gets it."""
        self._promised[binding.value] = binding.client

    def dropped(self, binding: Binding) -> None:
        """The unit was not committed: the value is free again, unless its client had it before."""
        self._promised.pop(binding.value, None)

    def clear(self) -> None:
        """Forget everything: the tree is not followed any more."""
        self._holder.clear()
        self._promised.clear()
        self._of_duid.clear()

    def entered(self, resource: Resource) -> None:
        """A binding is in the tree."""
        binding = binding_of(resource)
        self._promised.pop(binding.value, None)
        if binding.state is State.DECLINED:
            self._holder[binding.value] = None
            return
        self._holder[binding.value] = binding.client
        duid = binding.client.duid
        self._of_duid[duid] = self._of_duid.get(duid, 0) + 1

    def left(self, resource: Resource) -> None:
        """A binding is not in the tree any more, or not as it was."""
        binding = binding_of(resource)
        held_by = binding.client if binding.state is State.BOUND else None
        if binding.value in self._holder and self._holder[binding.value] == held_by:
            del self._holder[binding.value]
        if held_by is None:
            return
        duid = binding.client.duid
        self._of_duid[duid] -= 1
        if not self._of_duid[duid]:
            del self._of_duid[duid]


def _refuse(name: str, given: Document) -> Document:
    raise MethodNotAllowed("PUT", f"a binding ({name})", ("DELETE", "GET"))


def _describe(resource: Resource, tree: Tree) -> Document:
    return {name: value for name, value in resource.attributes.items() if name not in ("preferredLifetime", "validLifetime")}


_METHODS: Final = frozenset({Method.GET, Method.DELETE})
BINDING_TYPES: Final = (
    ResourceType(LEASE, (*LEASES, "*", "*"), _refuse, _describe, methods=_METHODS),
    ResourceType(PREFIX, (*PREFIXES, "*"), _refuse, _describe, methods=_METHODS),
)
"""The types that a node with a DHCPv6 role has. An operator may end a binding: its value is free from then on."""


def until(given_ms: int, lifetime_s: int) -> str | None:
    """The end of a lifetime as people read it; None for one without end."""
    return None if lifetime_s == 0xFFFFFFFF else rfc3339(given_ms + lifetime_s * 1000)  # noqa: PLR2004 - infinity, RFC 9915 7.7


def _number(given: Mapping[str, object], name: str) -> int:
    value = given[name]
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r}")
    return value


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
