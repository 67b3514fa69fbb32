"""What a LwM2M client holds of the objects Security (0) and Server (1), and the servers that they come to. Pure.

Responsible for writes and deletions by a bootstrap server, and for whether all of it makes sense (OMA TS-LightweightM2M-Core 1.1,
section 6.1.7 and appendix E). Not responsible for who may write (`client`) nor for payloads (`reading`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from m2mapp.formats.link_format import Link, format_links
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.lwm2m.accounts import SECURITY, SERVER
from m2mapp.lwm2m.objects import Instance, Resources
from m2mapp.lwm2m.plans import MAX_SERVERS, Security
from m2mapp.model.errors import Fault, NotAcceptable, TooLarge
from m2mapp.model.messages import Shown

_OWN: Final = 0
"""The instance of Security that is the bootstrap server's own account. Where that is was told by DHCPv6, and nobody writes it."""
_URI, _BOOTSTRAP, _MODE, _PUBLIC_KEY, _SERVER_KEY, _SECRET_KEY, _SHORT_ID_OF_SECURITY = 0, 1, 2, 3, 4, 5, 10
_SHORT_ID, _LIFETIME, _BINDING = 0, 1, 7
_LONGEST_LIFETIME_S: Final = 0xFFFFFFFF
_LEAST_LIFETIME_S: Final = 10
_USUAL_LIFETIME_S: Final = 86_400
_LAST_SHORT_ID: Final = 65_534


@dataclass(frozen=True, slots=True)
class ToldServer:
    """One server that the client was told of.

    `certificate` (DER): the one that it has to show; `shown`: what the client is to show it, where it was given that.
    """

    short_id: int
    uri: Uri
    security: Security
    lifetime_s: int = _USUAL_LIFETIME_S
    binding: str = "U"
    certificate: bytes | None = None
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The instances of both objects, by number, but for the bootstrap server's own account."""

    security: Mapping[int, Resources] = field(default_factory=dict)
    server: Mapping[int, Resources] = field(default_factory=dict)

    def without(self, number: int | None = None, instance: int | None = None) -> Held:
        """After a deletion of everything, of an object, or of one of its instances. What is not there is no error."""
        if number is None:
            return Held()
        kept = {each: resources for each, resources in self._of(number).items() if instance is not None and each != instance}
        return self._with(number, kept)

    def written(self, instances: Iterable[Instance]) -> Held:
        """After a write: each instance is replaced whole. Raises `TooLarge` for more than any plan has."""
        held = self
        for each in instances:
            if each.object == SECURITY and (each.number == _OWN or each.resources.get(_BOOTSTRAP) is True):
                continue  # an account of a bootstrap server: it is known who that is
            held = held._with(each.object, {**held._of(each.object), each.number: each.resources})
            if len(held._of(each.object)) > MAX_SERVERS:
                raise TooLarge(f"/{each.object}", MAX_SERVERS, "instances")
        return held

    def discovery(self, bootstrap_uri: str) -> str:
        """What a Bootstrap-Discover is answered (section 6.1.7.3)."""
        links = [Link("/", (("lwm2m", "1.1"),)), Link(f"/{SECURITY}/{_OWN}", (("uri", bootstrap_uri),))]
        for place, short_id in ((SECURITY, _SHORT_ID_OF_SECURITY), (SERVER, _SHORT_ID)):
            held = self._of(place)
            links += (Link(f"/{place}/{number}", _ssid(held[number].get(short_id))) for number in sorted(held))
        return format_links([*links, Link("/3/0")])

    def servers(self) -> tuple[ToldServer, ...]:
        """The servers by their short identifiers. Raises `NotAcceptable` where it is not consistent: then it says why."""
        found = [_server(number, resources) for number, resources in sorted(self.security.items())]
        by_id = {one.short_id: one for one in found}
        accounts = {resources.get(_SHORT_ID): resources for resources in self.server.values()}
        if not found or len(by_id) < len(found) or len(accounts) < len(self.server):
            raise inconsistent("there is no server" if not found else "a short identifier stands twice")
        if set(by_id) != set(accounts):
            raise inconsistent(f"the objects Security and Server have other servers: {sorted(by_id)} and {list(accounts)}")
        return tuple(_with_account(one, accounts[short_id]) for short_id, one in sorted(by_id.items()))

    def _of(self, number: int) -> Mapping[int, Resources]:
        return self.security if number == SECURITY else self.server

    def _with(self, number: int, instances: Mapping[int, Resources]) -> Held:
        return replace(self, security=instances) if number == SECURITY else replace(self, server=instances)


def inconsistent(why: str) -> NotAcceptable:
    """The fault for accounts that a client cannot use (4.06, section 6.1.7.6)."""
    return NotAcceptable((), why)


def _ssid(short_id: object) -> tuple[tuple[str, str], ...]:
    return (("ssid", str(short_id)),) if isinstance(short_id, int) else ()


def _server(number: int, resources: Resources) -> ToldServer:
    where = f"/{SECURITY}/{number}"
    short_id, mode = resources.get(_SHORT_ID_OF_SECURITY), resources.get(_MODE)
    if not isinstance(short_id, int) or not 0 < short_id <= _LAST_SHORT_ID:
        raise inconsistent(f"{where} has no short identifier from 1 to {_LAST_SHORT_ID}")
    try:
        uri = parse_uri(resources.get(_URI))
    except Fault as fault:
        raise inconsistent(f"{where}: {fault.detail}") from fault
    if mode not in [each.value for each in Security]:
        raise inconsistent(f"{where} has the security mode {mode!r}: 3 (none) and 2 (certificate) are known")
    security = Security(mode)
    if uri.scheme != ("coap" if security is Security.NONE else "coaps") or uri.path or uri.query:
        raise inconsistent(f"{where}: {uri.text()} is no URI for the security mode {mode!r}")
    shown = resources.get(_SERVER_KEY)
    certificate = shown if isinstance(shown, bytes) and shown else None
    return ToldServer(short_id, uri, security, certificate=certificate, shown=_shown(where, resources))


def _shown(where: str, resources: Resources) -> Shown | None:
    """The certificate that the client is to show, with its key; whether they belong together is seen when they are used."""
    public, secret = (resources.get(number) or b"" for number in (_PUBLIC_KEY, _SECRET_KEY))
    if not isinstance(public, bytes) or not isinstance(secret, bytes) or bool(public) is not bool(secret):
        raise inconsistent(f"{where} has a certificate without its key, or a key without its certificate")
    return Shown(public, secret) if public else None


def _with_account(server: ToldServer, resources: Resources) -> ToldServer:
    lifetime_s, binding = resources.get(_LIFETIME, _USUAL_LIFETIME_S), resources.get(_BINDING, "U")
    if not isinstance(lifetime_s, int) or not _LEAST_LIFETIME_S <= lifetime_s <= _LONGEST_LIFETIME_S:
        raise inconsistent(f"the server {server.short_id} has the lifetime {lifetime_s!r}: {_LEAST_LIFETIME_S} s at least")
    return replace(server, lifetime_s=lifetime_s, binding=str(binding)[:7])
