"""The objects of a gateway as an LwM2M client, for the server that it is registered at: Server (1), Device (3), its devices (33050).

Responsible for what is answered to Read, Discover (`answering`), Execute and Write-Attributes (OMA TS-LightweightM2M-Core 1.1, sections
6.3.5 and 6.4.2), and for whom Observe tells of changes. Pure. Not responsible for which devices there are (`devices`), nor for who the
server is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from zope.interface import implementer

from m2mapp.formats.documents import LINK_FORMAT, choose
from m2mapp.formats.link_format import Link, format_links
from m2mapp.lwm2m.answering import WHOLE, device_instance, discover, part_at, place_of, read, server_instance
from m2mapp.lwm2m.attributes import Attributes, Periods, Place
from m2mapp.lwm2m.devices import OBJECT, DeviceObject
from m2mapp.lwm2m.objects import Instance
from m2mapp.model.errors import MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.access import check_access

MAX_LINKED: Final = 200
"""So many instances of object 33050 are named in a registration; where there are more, the object alone is, and Discover names them."""
_UPDATE_TRIGGER: Final = ("1", "0", "8")
_SHORT_ID: Final = 1
_ETAG_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class About:
    """What the objects Server and Device say. `serial` is the gateway's name."""

    serial: str
    version: str
    lifetime_s: int

    def instances(self) -> tuple[Instance, ...]:
        """The instances of both objects."""
        return server_instance(0, _SHORT_ID, self.lifetime_s), device_instance("gateway", self.serial, self.version)


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
        self._fixed = about.instances()
        self._devices, self._number = devices, number
        self._watches: dict[ObjectWatch, None] = {}
        self._attributes = Attributes()
        self.renew: Callable[[], object] = lambda: None
        self.on_read: Callable[[int | None], object] = lambda _: None

    def links(self) -> str:
        """The objects and instances, as a registration names them (1.1, section 6.2.1)."""
        fixed = [Link(instance.path) for instance in self._fixed]
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
            return self._attributes.holding_at(place_of(path))
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
        place = place_of(request.path)
        found, media_type = self._read(place, request.accept)
        if place[0] == OBJECT and media_type != LINK_FORMAT:
            self.on_read(place[1] if len(place) > 1 else None)
        return Response(Status.CONTENT, found, media_type, hashlib.sha256(found).digest()[:_ETAG_BYTES])

    def _write_attributes(self, request: Request) -> Response:
        """When the server wants to be told (section 6.4.2). Raises `Fault`s."""
        place = place_of(request.path)
        if len(place) > 1:
            self._part(place)
        self._attributes.write(place, request.query)
        for watch in tuple(self._watches):
            watch.on_change(periods=True)
        return Response(Status.CHANGED)

    def _read(self, place: Place, accept: tuple[str, ...]) -> tuple[bytes, str]:
        """Payload and media type of a Read, or of a Discover, which asks for link format. Raises `Fault`s."""
        part = self._part(place)
        if LINK_FORMAT in accept[:1]:
            return discover(place, part, self._attributes.written_at), LINK_FORMAT
        if place == (OBJECT,):
            media_type = choose(accept, WHOLE)
            return self._devices.read(media_type), media_type
        return read(place, part, accept)

    def _part(self, place: Place) -> list[Instance]:
        """The instances that the place is or has. Raises `NoSuchResource`."""
        if place[0] != OBJECT:
            return part_at(place, self._fixed)
        numbers = sorted(self._devices.numbers) if len(place) == 1 else [place[1]]
        found = [instance for instance in map(self._devices.instance, numbers) if instance is not None]
        return found if len(place) == 1 else part_at(place, found)
