"""Who may do what, where that takes more than one part of a node to know. Not responsible for checking it: `tree.access`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from m2mapp.coap.settings import AccessSettings
from m2mapp.config import Settings
from m2mapp.http.tokens import ADMINISTRATOR
from m2mapp.model.principal import NOBODY, NODE, ROLE_RIGHTS, Principal, Right
from m2mapp.net.addresses import OnLink
from m2mapp.triggers.author import Current

_BY_SOURCE = ("coap:", "cert:")


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


def current_rights(settings: Settings) -> Current:
    """What gives the rights that a principal has now.

    A token's are those that the configuration says today, none where it is gone. Who came by CoAP keeps what it had, as far as the
    configuration still gives that right to anybody.
    """
    tokens = settings.http.tokens if settings.http is not None else ()
    known = [Principal(one.name, ROLE_RIGHTS[one.role], one.scopes) for one in tokens]
    by_name = {principal.name: principal for principal in (NODE, ADMINISTRATOR, *known)}
    access = settings.coap.access if settings.coap is not None else AccessSettings((), (), (), ())
    given = {Right.READ: access.read, Right.REGISTER: access.register, Right.ADVERTISE: access.advertise, Right.WRITE: access.write}
    left = frozenset(right for right, sources in given.items() if sources) | {Right.DISCOVER}

    def current(principal: Principal) -> Principal:
        if principal.name.startswith(_BY_SOURCE):
            return replace(principal, rights=principal.rights & left)
        found = by_name.get(principal.name)
        if found is None:
            return replace(principal, rights=frozenset())
        return replace(found, source=principal.source)

    return current
