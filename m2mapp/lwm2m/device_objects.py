"""The objects Server (1) and Device (3) of a device, for the servers that it is registered at: Read, and the triggers of Server.

Pure; what a Read is answered is in `answering`. Security (0) is never shown. Not responsible for the
registrations (`drivers.bootstrapping`); what the device measures is in the tree, as on any node.
"""

from __future__ import annotations

from typing import Final

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.link_format import Link, format_links
from m2mapp.lwm2m import answering
from m2mapp.lwm2m.accounts import SECURITY, SERVER
from m2mapp.lwm2m.answering import DEVICE, device_instance, part_at, place_of, server_instance
from m2mapp.lwm2m.held import ToldServer
from m2mapp.lwm2m.objects import Instance
from m2mapp.model.errors import Forbidden, MethodNotAllowed
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Method, Request, Response, Status

OBJECTS: Final = frozenset(map(str, (SECURITY, SERVER, DEVICE)))
"""The names at the root that are objects here, and no resources of the tree."""
UPDATE, BOOTSTRAP = "8", "9"
"""Resources of Server that are executed: Registration Update Trigger, Bootstrap-Request Trigger."""
_LEVELS: Final = 3


def instances(endpoint: str, version: str, servers: tuple[ToldServer, ...]) -> tuple[Instance, ...]:
    """The instances of both objects."""
    told = (server_instance(number, one.short_id, one.lifetime_s, one.binding) for number, one in enumerate(servers, 1))
    return (*told, device_instance("device", endpoint, version))


def links(found: tuple[Instance, ...], node_links: str) -> str:
    """What a registration names: the objects' instances, then the node's resources (section 6.2.1)."""
    root = Link("/", (("rt", "oma.lwm2m"), ("ct", "11542 110 112")))
    own = format_links([root, *(Link(one.path) for one in found)])
    return f"{own},{node_links}" if node_links else own


def trigger(request: Request, found: tuple[Instance, ...]) -> str | None:
    """Which resource of Server a request executes; None for any other request. Raises `NoSuchResource`."""
    path = request.path
    if request.method is not Method.POST or len(path) != _LEVELS or path[0] != str(SERVER) or path[2] not in (UPDATE, BOOTSTRAP):
        return None
    part_at(place_of(path[:2]), found)
    return path[2]


def read(request: Request, found: tuple[Instance, ...]) -> Response:
    """The answer to a Read, or with Accept 40 to a Discover. Raises a `Fault`."""
    path = request.path
    if path[0] == str(SECURITY):
        raise Forbidden("the object Security is for bootstrap servers")
    if request.method is not Method.GET:
        raise MethodNotAllowed(request.method.value, path_text(path), ("GET",))
    place = place_of(path)
    part = part_at(place, found)
    if LINK_FORMAT in request.accept[:1]:
        return Response(Status.CONTENT, answering.discover(place, part), LINK_FORMAT)
    return Response(Status.CONTENT, *answering.read(place, part, request.accept))
