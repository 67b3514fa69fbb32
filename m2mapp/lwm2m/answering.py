"""What a Read and a Discover of LwM2M objects are answered, and the instances that a gateway and a device both have.

Pure (OMA TS-LightweightM2M-Core 1.1, sections 6.3.1 and 6.3.2, appendices E.2 and E.4). Not responsible for which instances there are
and who may read them: that is said by `client_objects` of a gateway, by `device_objects` of a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from m2mapp.formats.documents import OCTETS, SENML_CBOR, SENML_JSON, TEXT, choose
from m2mapp.formats.link_format import Link, format_links
from m2mapp.lwm2m.accounts import SERVER
from m2mapp.lwm2m.attributes import Place
from m2mapp.lwm2m.objects import TLV, Instance, payload, payload_of_object
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.identifiers import Path, path_text

DEVICE: Final = 3
WHOLE: Final = (TLV, SENML_JSON, SENML_CBOR)
"""What objects and instances are read as, the first where anything will do."""
_RESOURCE: Final = 3
"""So many numbers has the place of a resource."""
_MOST_DIGITS: Final = 5


def server_instance(number: int, short_id: int, lifetime_s: int, binding: str = "U") -> Instance:
    """The instance of Server (1) for one server that the client is registered at."""
    return Instance(SERVER, number, {0: short_id, 1: lifetime_s, 6: False, 7: binding})


def device_instance(kind: str, serial: str, version: str) -> Instance:
    """The instance of Device (3): no error is known of it."""
    return Instance(DEVICE, 0, {0: "m2mapp", 1: kind, 2: serial, 3: version, 11: {0: 0}, 16: "U"})


def place_of(path: Path) -> Place:
    """Object, instance and resource as numbers, as far as the path names them. Raises `NoSuchResource`."""
    if not 1 <= len(path) <= _RESOURCE or not all(part.isascii() and part.isdecimal() and len(part) <= _MOST_DIGITS for part in path):
        raise NoSuchResource(path_text(path))
    return tuple(map(int, path))


def part_at(place: Place, instances: Iterable[Instance]) -> list[Instance]:
    """Those of the instances that the place is or has; for a resource one with that alone. Raises `NoSuchResource`."""
    found = [each for each in instances if (each.object, each.number)[: len(place)] == place[:2]]
    if len(place) == _RESOURCE:
        kept = ((each, each.resources[place[2]]) for each in found if place[2] in each.resources)
        found = [Instance(each.object, each.number, {place[2]: value}) for each, value in kept]
    if not found:
        raise NoSuchResource(_text(place))
    return found


def read(place: Place, part: list[Instance], accept: tuple[str, ...]) -> tuple[bytes, str]:
    """Payload and media type of a Read of a place, which is this part. Raises `NotAcceptable`.

    Where the server accepts anything, a resource is text or bytes as it is, which servers of LwM2M 1.0 expect, and all else TLV.
    """
    if len(place) == 1:
        media_type = choose(accept, WHOLE)
        return payload_of_object(part, media_type), media_type
    value = part[0].resources[place[2]] if len(place) == _RESOURCE else None
    own = OCTETS if isinstance(value, bytes) else TEXT if isinstance(value, str | int) else None
    media_type = choose(accept, (*([own] if own is not None else []), *WHOLE))
    if media_type == TEXT:
        return (str(int(value)) if isinstance(value, bool) else str(value)).encode(), TEXT
    if media_type == OCTETS and isinstance(value, bytes):
        return value, OCTETS
    return payload(part[0], media_type), media_type


def discover(place: Place, part: list[Instance], attributes: Callable[[Place], tuple[tuple[str, str], ...]] = lambda _: ()) -> bytes:
    """The payload of a Discover: the place, the instances in it, and their resources, with the `attributes` written at each."""
    places: list[Place] = [place] if len(place) == 1 else []
    for each in part:
        at = each.object, each.number
        places += [at] if len(place) < _RESOURCE else []
        places += ((*at, number) for number in each.resources)
    return format_links(Link(_text(each), attributes(each)) for each in places).encode()


def _text(place: Place) -> str:
    return "/" + "/".join(map(str, place))
