"""The objects Server (1) and Device (3) of a device, for the servers that it is registered at: Read, and the triggers of Server.

Pure (OMA TS-LightweightM2M-Core 1.1, section 6.3 and appendices E.2 and E.4). Security (0) is never shown. Not responsible for the
registrations (`drivers.bootstrapping`); what the device measures is in the tree, as on any node.
"""

from __future__ import annotations

from typing import Final

from m2mapp.formats.documents import LINK_FORMAT, SENML_CBOR, SENML_JSON, choose
from m2mapp.formats.link_format import Link, format_links
from m2mapp.lwm2m.accounts import SECURITY, SERVER
from m2mapp.lwm2m.held import ToldServer
from m2mapp.lwm2m.objects import TLV, Instance, payload, payload_of_object
from m2mapp.model.errors import Forbidden, MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request, Response, Status

DEVICE: Final = 3
OBJECTS: Final = frozenset(map(str, (SECURITY, SERVER, DEVICE)))
"""The names at the root that are objects here, and no resources of the tree."""
UPDATE, BOOTSTRAP = "8", "9"
"""Resources of Server that are executed: Registration Update Trigger, Bootstrap-Request Trigger."""
_LEVELS: Final = 3


def instances(endpoint: str, version: str, servers: tuple[ToldServer, ...]) -> tuple[Instance, ...]:
    """The instances of both objects."""
    told = (
        Instance(SERVER, number, {0: one.short_id, 1: one.lifetime_s, 6: False, 7: one.binding}) for number, one in enumerate(servers, 1)
    )
    return (*told, Instance(DEVICE, 0, {0: "m2mapp", 1: "device", 2: endpoint, 3: version, 16: "U"}))


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
    _of(path[:2], found)
    return path[2]


def read(request: Request, found: tuple[Instance, ...]) -> Response:
    """The answer to a Read, or with Accept 40 to a Discover. Raises a `Fault`."""
    path = request.path
    if path[0] == str(SECURITY):
        raise Forbidden("the object Security is for bootstrap servers")
    if request.method is not Method.GET:
        raise MethodNotAllowed(request.method.value, path_text(path), ("GET",))
    chosen = _of(path, found)
    if LINK_FORMAT in request.accept[:1]:
        names = (Link(f"{one.path}/{number}") for one in chosen for number in one.resources)
        return Response(Status.CONTENT, format_links(names).encode(), LINK_FORMAT)
    media_type = choose(request.accept, (TLV, SENML_JSON, SENML_CBOR))
    whole = payload_of_object(chosen, media_type) if len(path) == 1 else payload(chosen[0], media_type)
    return Response(Status.CONTENT, whole, media_type)


def _of(path: Path, found: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """The instances that a path names, and of a resource's instance that resource alone. Raises `NoSuchResource`."""
    wanted = "/" + "/".join(path[:2])
    chosen = tuple(one for one in found if wanted in (f"/{one.object}", one.path))
    if len(path) == _LEVELS and chosen:
        number = next((number for number in chosen[0].resources if str(number) == path[2]), None)
        chosen = () if number is None else (Instance(chosen[0].object, chosen[0].number, {number: chosen[0].resources[number]}),)
    if not chosen or len(path) > _LEVELS:
        raise NoSuchResource(path_text(path))
    return chosen
