"""Bootstrap plans: what a device is written, whom a plan is for, and how the device must have shown who it is (spec section 9).

Responsible for what a plan's document may be, be it a file or a resource `/bs/<name>`, and for the plan of an endpoint. Pure. Not
responsible for reading files (`settings`) nor for the exchange (`bootstrap`). Keys and certificates are never in a plan: it names
credentials that the configuration file has.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import translate
from typing import Final

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, integer, list_of, table_of
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Conflict, Fault, Malformed, Overloaded
from m2mapp.model.identifiers import Path
from m2mapp.tree.paths import check_segment
from m2mapp.tree.types import ResourceType, named_as
from m2mapp.tree.unit import Document

BS: Path = ("bs",)
PLAN: Final = "bootstrapPlan"
FILE: Final = "file"
"""Set by this program on a plan that a file has: it is changed there."""
MAX_SERVERS: Final = 16
MAX_PATTERNS: Final = 256
"""Patterns are tried one after another for each endpoint that no plan names."""
MAX_ENDPOINT_BYTES: Final = 128
_MAX_SHORT_ID: Final = 65_534
_BINDING: Final = re.compile(r"(?!.*(.).*\1)[UMHTSNQ]{1,7}")


class Selector(Enum):
    """Whom a plan is for: the endpoint of that name, those whose name matches (`*` and `?`), or all that no other plan is for."""

    ENDPOINT = "endpoint"
    PATTERN = "pattern"
    DEFAULT = "default"


class Identity(Enum):
    """How a client must have shown who it is: not at all, or by a verified certificate that names its endpoint."""

    NONE = "none"
    CERTIFICATE = "certificate"


class Delete(Enum):
    """What is deleted first: all that the client lets go (`DELETE /`), or the accounts (`/0` and `/1`).

    It is always something: whoever sends a request under another's address has a few small messages sent there, and no certificates.
    """

    ALL = "all"
    ACCOUNTS = "accounts"


class Security(Enum):
    """How a device is to talk to a server; the value of the security mode is LwM2M's (appendix E.1, resource 2)."""

    NONE = 3
    CERTIFICATE = 2


@dataclass(frozen=True, slots=True)
class Account:
    """One server that a device is told of. `credentials` is the name of a table of the configuration; empty with `Security.NONE`."""

    short_id: int
    uri: str
    security: Security
    credentials: str
    lifetime_s: int
    binding: str
    storing: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan. `who` is the endpoint's name or the pattern; empty for the default."""

    name: str
    selector: Selector
    who: str
    identity: Identity
    delete: Delete
    discover: bool
    pack: bool
    accounts: tuple[Account, ...]


def endpoint_name(value: object) -> str:
    """The name of an endpoint, as a check: raises `Wrong`."""
    expected = f"an endpoint's name of 1 to {MAX_ENDPOINT_BYTES} bytes, printable, without '/'"
    if not isinstance(value, str) or len(value.encode(errors="replace")) > MAX_ENDPOINT_BYTES:
        raise Wrong(value, expected)
    try:
        return check_segment(value)
    except Fault as fault:
        raise Wrong(value, expected) from fault


def _uri(value: object) -> str:
    try:
        uri = parse_uri(value)
    except Fault as fault:
        raise Wrong(value, "a URI such as coap://[fd00::1]:5683") from fault
    if uri.scheme not in ("coap", "coaps") or uri.path or uri.query:
        raise Wrong(value, "a coap or coaps URI without path and query, such as coaps://m2m.example.org:5684")
    return str(value)  # as it was written: devices get it so


def _binding(value: object) -> str:
    if not isinstance(value, str) or not _BINDING.fullmatch(value):
        raise Wrong(value, "a binding: letters of U M H T S N Q, each once, such as U or UQ")
    return value


def _credentials_of(known: Container[str]) -> Field:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise Wrong(value, "the name of a table [bootstrap.credentials.NAME] of the configuration file")
        return value

    return Field(check, "")


class PlanShape:
    """What a plan's document may be where these credentials are known."""

    def __init__(self, credentials: Container[str]) -> None:
        account = Shape(
            {
                "shortId": Field(integer(1, _MAX_SHORT_ID)),
                "uri": Field(_uri),
                "security": Field(choice("none", "certificate"), "none"),
                "credentials": _credentials_of(credentials),
                "lifetime": Field(integer(1, 2**31 - 1), 86_400),
                "binding": Field(_binding, "U"),
                "storing": Field(boolean, False),
            }
        )
        self._shape = Shape(
            {
                "endpoint": Field(endpoint_name, None),
                "pattern": Field(endpoint_name, None),
                "default": Field(boolean, False),
                "identity": Field(choice(*(each.value for each in Identity)), Identity.NONE.value),
                "delete": Field(choice(*(each.value for each in Delete)), Delete.ALL.value),
                "discover": Field(boolean, False),
                "pack": Field(boolean, False),
                "servers": Field(list_of(table_of(account), least=1, most=MAX_SERVERS)),
            }
        )

    def read(self, given: Mapping[str, object], where: str = "") -> tuple[Document, list[Malformed]]:
        """The document with its defaults, and all faults; `where` stands before each field's name."""
        values, faults = self._shape.read(given, where)
        if not faults:
            faults = [*_whom(values, where), *_accounts(values, where)]
        return {name: value for name, value in values.items() if value not in (None, "")}, faults

    def check(self, name: str, given: Document) -> Document:
        """The same for a resource of that name. Raises the first fault."""
        values, faults = self.read({key: value for key, value in named_as(name, given).items() if key != FILE})
        if faults:
            raise faults[0]
        return values

    def type(self) -> ResourceType:
        """The resource type of plans."""
        return ResourceType(PLAN, (*BS, "*"), self.check)


def _whom(values: Document, where: str) -> list[Malformed]:
    given = [name for name in ("endpoint", "pattern", "default") if values[name]]
    expected = 'one of endpoint = "dev-one", pattern = "dev-*" and default = true'
    return [] if len(given) == 1 else [Malformed(f"{where}{given[1] if given else 'endpoint'}", ", ".join(given) or "nothing", expected)]


def _accounts(values: Document, where: str) -> list[Malformed]:
    """What must hold between the keys of a server, and between the servers."""
    faults = []
    seen: set[object] = set()
    servers = values["servers"]
    shown = values["identity"] == Identity.CERTIFICATE.value
    for index, server in enumerate(servers if isinstance(servers, list) else ()):
        place = f"{where}servers[{index}]."
        if server["shortId"] in seen:
            faults.append(Malformed(f"{place}shortId", server["shortId"], "a short identifier that no other server of the plan has"))
        seen.add(server["shortId"])
        secure = str(server["uri"]).lower().startswith("coaps:")
        if secure is not (server["security"] == "certificate"):
            wanted = 'coaps with security = "certificate", or coap with security = "none"'
            faults.append(Malformed(f"{place}uri", server["uri"], wanted))
        if bool(server["credentials"]) is not secure:
            wanted = "given where security is certificate, and only there"
            faults.append(Malformed(f"{place}credentials", server["credentials"] or "nothing", wanted))
        elif secure and not shown:  # a key would go to whoever gives a name, in clear text
            faults.append(Malformed(f"{where}identity", values["identity"], "certificate, since the plan has credentials"))
    return faults


def plan_of(name: str, document: Document) -> Plan:
    """The plan that a checked document says."""
    selector = next(each for each in Selector if document.get(each.value))
    servers = document["servers"]
    return Plan(
        name,
        selector,
        str(document[selector.value]) if selector is not Selector.DEFAULT else "",
        Identity(document["identity"]),
        Delete(document["delete"]),
        bool(document["discover"]),
        bool(document["pack"]),
        tuple(map(_account, servers if isinstance(servers, list) else ())),
    )


def _account(document: Document) -> Account:
    security = Security.CERTIFICATE if document["security"] == "certificate" else Security.NONE
    numbers = {name: value for name, value in document.items() if isinstance(value, int)}
    return Account(
        numbers["shortId"],
        str(document["uri"]),
        security,
        str(document.get("credentials", "")),
        numbers["lifetime"],
        str(document["binding"]),
        bool(document["storing"]),
    )


def clashing(plan: Plan, other: str) -> Conflict:
    """The fault that a plan of this name is for the same devices."""
    return Conflict(f"the plan {other} is for {plan.selector.value} {plan.who or 'devices'} already: two cannot be for the same")


class PlanBook:
    """The plans that there are, by whom they are for."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._by_endpoint: dict[str, Plan] = {}
        self._patterns: list[tuple[re.Pattern[str], Plan]] = []
        self._default: Plan | None = None

    def put(self, plan: Plan) -> None:
        """A plan is there, or has changed."""
        self.drop(plan.name)
        self._plans[plan.name] = plan
        if plan.selector is Selector.ENDPOINT:
            self._by_endpoint[plan.who] = plan
        elif plan.selector is Selector.DEFAULT:
            self._default = plan
        else:
            self._patterns.append((re.compile(translate(plan.who.replace("[", "[[]"))), plan))
            self._patterns.sort(key=lambda each: (-_weight(each[1].who), each[1].who))

    def drop(self, name: str) -> None:
        """A plan is gone; one that was not there is no error."""
        plan = self._plans.pop(name, None)
        if plan is None:
            return
        if self._by_endpoint.get(plan.who) is plan:
            del self._by_endpoint[plan.who]
        if self._default is plan:
            self._default = None
        self._patterns = [each for each in self._patterns if each[1] is not plan]

    def clash(self, plan: Plan) -> str | None:
        """The name of another plan that is for the same devices."""
        others = filter(None, [self._by_endpoint.get(plan.who)]) if plan.selector is Selector.ENDPOINT else self._plans.values()
        same = (other.name for other in others if (other.selector, other.who) == (plan.selector, plan.who))
        return next((name for name in same if name != plan.name), None)

    def check(self, plan: Plan) -> None:
        """Raise `Conflict` where another plan is for the same devices, `Overloaded` where there are too many patterns."""
        other = self.clash(plan)
        if other is not None:
            raise clashing(plan, other)
        if plan.selector is Selector.PATTERN and sum(each.name != plan.name for _, each in self._patterns) >= MAX_PATTERNS:
            raise Overloaded(f"there are {MAX_PATTERNS} plans with a pattern, and no more are taken")

    def find(self, endpoint: str) -> Plan | None:
        """The plan for an endpoint: the one that names it, else the pattern that says most of the name, else the default; or None."""
        named = self._by_endpoint.get(endpoint)
        if named is not None:
            return named
        return next((plan for pattern, plan in self._patterns if pattern.match(endpoint)), self._default)


def _weight(pattern: str) -> int:
    return len(pattern) - pattern.count("*") - pattern.count("?")
