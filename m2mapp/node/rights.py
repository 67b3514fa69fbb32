"""Who may do what, where that takes more than one part of a node to know. Not responsible for checking it: `tree.access`."""

from __future__ import annotations

from dataclasses import replace

from m2mapp.admin.records import account_principal
from m2mapp.coap.settings import AccessSettings
from m2mapp.config import Settings
from m2mapp.http.tokens import ADMINISTRATOR
from m2mapp.model.principal import NODE, ROLE_RIGHTS, Principal, Right
from m2mapp.tree.tree import Tree
from m2mapp.triggers.author import Current

_BY_SOURCE = ("coap:", "cert:")


def current_rights(settings: Settings, tree: Tree) -> Current:
    """What gives the rights that a principal has now.

    A token's are those that the configuration says today, a user's and those of a token made on the pages what the tree says; none where
    it is gone. Who came by CoAP keeps what it had, as far as the configuration still gives that right to anybody.
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
        found = account_principal(tree, principal.name) or by_name.get(principal.name)
        if found is None:
            return replace(principal, rights=frozenset())
        return replace(found, source=principal.source)

    return current
