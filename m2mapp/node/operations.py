"""Joins operations with the rest of a node: its tree, its senders, and who may still do what. Not responsible for what they do."""

from __future__ import annotations

from dataclasses import replace

from m2mapp.clients.names import OwnUris
from m2mapp.coap.settings import AccessSettings
from m2mapp.config import Settings
from m2mapp.formats.uris import parse_uri
from m2mapp.http.tokens import ADMINISTRATOR
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.principal import NODE, ROLE_RIGHTS, Principal, Right
from m2mapp.triggers.author import Current
from m2mapp.triggers.circles import Own

_BY_SOURCE = ("coap:", "cert:")


def own_paths(own: OwnUris) -> Own:
    """What gives the path of a URI that is this node's, None of any other."""

    def path_of(uri: str) -> Path | None:
        try:
            found = parse_uri(uri)
        except Fault:
            return None
        return found.path if own(found) else None

    return path_of


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
