"""Who may do what in the tree (spec section 10): the right that a request needs, and the check."""

from __future__ import annotations

from m2mapp.model.errors import Forbidden, Unauthenticated
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import NOBODY, Principal, Right

_WRITE_RIGHTS = {"mcGroups": Right.ADVERTISE, "coap-group": Right.ADVERTISE, "rd": Right.REGISTER, "scls": Right.REGISTER}
DISCOVERY: Path = (".well-known", "core")
WIRE: Path = ("node", "wire")
"""Where the messages of the CoAP ports are shown: whatever path they are about, so that the right must hold at the root."""
BOOTSTRAP: Path = ("bs",)
BOOTSTRAP_PACK: Path = ("bspack",)
"""Where an LwM2M client asks to be bootstrapped. The right to that is the same as to register: the plan may ask for more."""


def needed(method: Method, path: Path) -> Right:
    """The right that a request with this method to this path needs."""
    if path[:1] == ("admin",) or path == WIRE:
        return Right.ADMIN
    if (method is Method.POST and path == BOOTSTRAP) or path == BOOTSTRAP_PACK:
        return Right.REGISTER
    if method is Method.GET:
        return Right.DISCOVER if path == DISCOVERY else Right.READ
    return _WRITE_RIGHTS.get(path[0], Right.WRITE) if path else Right.WRITE


def check_access(principal: Principal, method: Method, path: Path) -> None:
    """Nothing, if the principal may; raises `Unauthenticated` for nobody and `Forbidden` for somebody."""
    right = needed(method, path)
    if principal.may(right, () if path == WIRE else path):
        return
    if principal is NOBODY:
        raise Unauthenticated(f"{method.value} of {path_text(path)} needs a token with the right to {right.value}")
    raise Forbidden(f"{principal.name} has no right to {right.value} at {path_text(path)}")
