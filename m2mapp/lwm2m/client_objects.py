"""The objects of a gateway as an LwM2M client, for the server that it is registered at: Server (1), Device (3), its devices (33050).

Responsible for what is answered to Read, Discover, Execute and Write-Attributes (OMA TS-LightweightM2M-Core 1.1, sections 6.3.1, 6.3.2,
6.3.5 and 6.4.2), and for whom Observe tells of changes. Pure. Not responsible for which devices there are (`devices`), nor for who the
server is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from zope.interface import implementer

from m2mapp.formats.documents import LINK_FORMAT, OCTETS, SENML_CBOR, SENML_JSON, TEXT, choose
from m2mapp.formats.link_format import Link, format_links
from m2mapp.lwm2m.attributes import Attributes, Periods, Place
from m2mapp.lwm2m.devices import OBJECT, DeviceObject
from m2mapp.lwm2m.objects import TLV, Instance, Resources, payload, payload_of_object
from m2mapp.model.errors import MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.access import check_access

MAX_LINKED: Final = 200
"""So many instances of object 33050 are named in a registration; where there are more, the object alone is, and Discover names them."""
SERVER_OBJECT, DEVICE_OBJECT = 1, 3
_UPDATE_TRIGGER: Final = ("1", "0", "8")
_SHORT_ID: Final = 1
_MOST_NUMBERS: Final = 3
_ETAG_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class About:
    """What the objects Server and Device say. `serial` is the gateway's name."""

    serial: str
    version: str
    lifetime_s: int

    def instances(self) -> tuple[Instance, ...]:
        """The instances of both objects (1.1, appendix E.2 and E.4)."""
        server: Resources = {0: _SHORT_ID, 1: self.lifetime_s, 6: False, 7: "U"}
        device: Resources = {0: "m2mapp", 1: "gateway", 2: self.serial, 3: self.version, 11: {0: 0}, 16: "U"}
        return Instance(SERVER_OBJECT, 0, server), Instance(DEVICE_OBJECT, 0, device)


class Tell(Protocol):
    """What observers are told by."""

    def __call__(self, *, again: bool = False) -> None:
        """Tell what there is now. `again`: it may be the same as before, and is told all the same."""


class Heard(Protocol):
    """What hears of changes."""

    def __call__(self, *, periods: bool = False) -> None:
        """The object is another, or the `periods` in which the server wants to be told are."""


class ObjectWatch:
    """Somebody who observes object 33050 or a part of it, until it is stopped."""

    def __init__(self, watches: dict[ObjectWatch, None], on_change: Heard) -> None:
        self._watches, self.on_change = watches, on_change
        watches[self] = None

    def stop(self) -> None:
        """No further calls. Stopping again does nothing."""
        self._watches.pop(self, None)


@implementer(IHandle)
class ClientObjects:
    """Answers at the client's own endpoint. `renew` is called where the server triggers an update (resource 8 of Server).

    `on_read` is told which instance of 33050 the server has read; None: the whole object. `number` is one that never goes back.
    """

    def __init__(self, about: About, devices: DeviceObject, number: Callable[[], int]) -> None:
        self._fixed = {instance.object: instance for instance in about.instances()}
        self._devices, self._number = devices, number
        self._watches: dict[ObjectWatch, None] = {}
        self._attributes = Attributes()
        self.renew: Callable[[], object] = lambda: None
        self.on_read: Callable[[int | None], object] = lambda _: None

    def links(self) -> str:
        """The objects and instances, as a registration names them (1.1, section 6.2.1)."""
        fixed = [Link(instance.path) for instance in self._fixed.values()]
        numbers = sorted(self._devices.numbers) if 0 < len(self._devices) <= MAX_LINKED else []
        return format_links([*fixed, *(Link(f"/{OBJECT}/{number}") for number in numbers), *([] if numbers else [Link(f"/{OBJECT}")])])

    def changed(self) -> None:
        """An instance of 33050 came, went, or is another now: observers are told. One whose part is as before is sent nothing."""
        self._attributes.forget_others(self._devices.numbers)
        for watch in tuple(self._watches):
            watch.on_change()

    # What can be observed, and when that is told (`drivers.telling`).

    def served_by_another(self) -> None:
        """The server is another one from now on, and has written no periods."""
        self._attributes.clear()

    def periods(self, path: Path) -> Periods:
        """The periods that hold at a path; none for what is no path of objects."""
        try:
            return self._attributes.holding_at(_place(path))
        except NoSuchResource:
            return Periods()

    def watch(self, path: Path, on_change: Heard, *, subtree: bool) -> ObjectWatch | None:
        """Be told of changes of object 33050; the other objects do not change."""
        return ObjectWatch(self._watches, on_change) if path[:1] == (str(OBJECT),) else None

    def number(self) -> int:
        """The number of the last change."""
        return self._number()

    # Requests.

    def handle(self, request: Request) -> Response | None:
        """The answer to a request at the endpoint; None to one that a group was asked. Raises `Fault`s; only the server has any right."""
        if request.multicast is not None:
            return None
        check_access(request.principal, request.method, request.path)
        if request.method is Method.POST and request.path == _UPDATE_TRIGGER:
            self.renew()
            return Response(Status.CHANGED)
        if request.method is Method.PUT and request.path[:1] == (str(OBJECT),) and request.query and not request.payload:
            return self._write_attributes(request)
        if request.method is not Method.GET:
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",))
        place = _place(request.path)
        found, media_type = self._read(place, request.accept)
        if place[0] == OBJECT and media_type != LINK_FORMAT:
            self.on_read(place[1] if len(place) > 1 else None)
        return Response(Status.CONTENT, found, media_type, hashlib.sha256(found).digest()[:_ETAG_BYTES])

    def _write_attributes(self, request: Request) -> Response:
        """When the server wants to be told (section 6.4.2). Raises `Fault`s."""
        place = _place(request.path)
        if len(place) > 1:
            self._instances(place)
        self._attributes.write(place, request.query)
        for watch in tuple(self._watches):
            watch.on_change(periods=True)
        return Response(Status.CHANGED)

    def _read(self, place: tuple[int, ...], accept: tuple[str, ...]) -> tuple[bytes, str]:
        """Payload and media type of a Read, or of a Discover, which asks for link format.

        Where the server accepts anything, a resource is text or bytes as it is, which servers of LwM2M 1.0 expect, and all else TLV.
        """
        instances = self._instances(place)
        if LINK_FORMAT in accept[:1]:
            return format_links(self._discovered(place, instances)).encode(), LINK_FORMAT
        if len(place) == 1:
            media_type = choose(accept, (TLV, SENML_JSON, SENML_CBOR))
            whole = self._devices.read(media_type) if place[0] == OBJECT else payload_of_object(instances, media_type)
            return whole, media_type
        value = instances[0].resources[place[2]] if len(place) == _MOST_NUMBERS else None
        own = OCTETS if isinstance(value, bytes) else TEXT if isinstance(value, str | int) else None
        media_type = choose(accept, (*([own] if own is not None else []), TLV, SENML_JSON, SENML_CBOR))
        if media_type == TEXT:
            return (str(int(value)) if isinstance(value, bool) else str(value)).encode(), TEXT
        if media_type == OCTETS and isinstance(value, bytes):
            return value, OCTETS
        return payload(instances[0], media_type), media_type

    def _instances(self, place: tuple[int, ...]) -> list[Instance]:
        """The instances that the place is or has; for a resource one with that alone. Raises `NoSuchResource`."""
        if place[0] == OBJECT and len(place) == 1:
            return [instance for instance in map(self._devices.instance, sorted(self._devices.numbers)) if instance is not None]
        fixed = self._fixed.get(place[0])
        numbered = [fixed] if fixed is not None and (len(place) == 1 or place[1] == fixed.number) else []
        one = self._devices.instance(place[1]) if place[0] == OBJECT else None
        found = [one] if one is not None else numbered
        if len(place) == _MOST_NUMBERS:
            kept = ((each, each.resources[place[2]]) for each in found if place[2] in each.resources)
            found = [Instance(each.object, each.number, {place[2]: value}) for each, value in kept]
        if not found:
            raise NoSuchResource("/" + "/".join(map(str, place)))
        return found

    def _discovered(self, place: Place, instances: Iterable[Instance]) -> Iterable[Link]:
        """The place, the instances in it, and their resources, with the attributes written at each."""
        if len(place) == 1:
            yield self._link(place)
        for instance in instances:
            at = instance.object, instance.number
            if len(place) < _MOST_NUMBERS:
                yield self._link(at)
            yield from (self._link((*at, number)) for number in instance.resources)

    def _link(self, place: Place) -> Link:
        return Link("/" + "/".join(map(str, place)), self._attributes.written_at(place))


def _place(path: Path) -> tuple[int, ...]:
    """Object, instance and resource as numbers, as far as the path names them. Raises `NoSuchResource`."""
    if not 1 <= len(path) <= _MOST_NUMBERS or not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in path):  # noqa: PLR2004
        raise NoSuchResource(path_text(path))
    return tuple(map(int, path))
