"""Object 33050, "DHCPv6-configured devices": leases as instances of an LwM2M object, for whoever reads it (spec section 9).

Responsible for which instance a lease is and for what a read of the object, of an instance or of a resource gives. Pure. Not
responsible for serving it. The definition of the object for other programs is `etc/lwm2m-33050.xml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

from m2mapp.formats.documents import parse_rfc3339
from m2mapp.lwm2m.objects import TLV, Instance, Resources, payload, payload_of_object
from m2mapp.lwm2m.tlv import Type
from m2mapp.model.errors import Malformed, NoSuchResource, Overloaded
from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Document

OBJECT: Final = 33050
MAX_INSTANCES: Final = 65_535
"""Instances are numbered from 0 to 65534; 65535 is reserved (OMA TS-LightweightM2M-Core 1.1, section 7.1)."""
_ADDRESS, _DUID, _GIVEN_AT, _VALID_UNTIL, _BOOTSTRAP_URI, _IAID, _ENDPOINT, _REGISTERED_AT, _IN_GROUPS_AT = range(9)
RESOURCES: Final[dict[int, tuple[str, Type]]] = {
    _ADDRESS: ("IPv6 Address", Type.STRING),
    _DUID: ("DUID", Type.OPAQUE),
    _GIVEN_AT: ("Given At", Type.TIME),
    _VALID_UNTIL: ("Valid Until", Type.TIME),
    _BOOTSTRAP_URI: ("Bootstrap URI", Type.STRING),
    _IAID: ("IAID", Type.INTEGER),
    _ENDPOINT: ("Endpoint Name", Type.STRING),
    _REGISTERED_AT: ("Registered At", Type.TIME),
    _IN_GROUPS_AT: ("In Groups At", Type.TIME),
}
"""What the resources of an instance are: name and type. The last three are later steps, of which the gateway may have seen none."""
_TEXTS: Final = {_ADDRESS: "address", _BOOTSTRAP_URI: "bootstrapURI", _ENDPOINT: "endpoint"}
_TIMES: Final = {_GIVEN_AT: "givenAt", _VALID_UNTIL: "validUntil", _REGISTERED_AT: "registeredAt", _IN_GROUPS_AT: "inGroupsAt"}


def resources_of(lease: Document) -> Resources:
    """The resources that a lease's document (`/leases/<duid>/<iaid>`) comes to. What a lease has not is left out. Raises `Malformed`.

    Beside what a lease has the document may say `endpoint`, `registeredAt` and `inGroupsAt`.
    """
    found: dict[int, str | int | bool | bytes] = {}
    for number, name in _TEXTS.items():
        value = lease.get(name)
        if isinstance(value, str) and value:
            found[number] = value
    try:
        found[_DUID] = bytes.fromhex(str(lease.get("duid", "")))
    except ValueError as error:
        raise Malformed("duid", lease.get("duid"), "hexadecimal digits") from error
    for number, name in _TIMES.items():
        if lease.get(name) is not None:
            found[number] = parse_rfc3339(lease[name], name) // 1000
    iaid = lease.get("iaid")
    if isinstance(iaid, int):
        found[_IAID] = iaid
    return dict(sorted(found.items()))


class DeviceObject:
    """The instances of the object. A lease keeps its number while it is there; the numbers of those that went are given again."""

    def __init__(self) -> None:
        self._numbers: dict[Path, int] = {}
        self._instances: dict[int, Instance] = {}
        self._tlv: dict[int, bytes] = {}  # with thousands of devices making it anew for each notification took 100 ms
        self._free: list[int] = []

    def put(self, path: Path, lease: Document) -> int:
        """A lease is there, or has changed: its number. Raises `Malformed`, or `Overloaded` where all numbers are taken."""
        resources = resources_of(lease)
        number = self._numbers.get(path)
        if number is None:
            if not self._free and len(self._numbers) >= MAX_INSTANCES:
                raise Overloaded(f"there are {MAX_INSTANCES} instances of the object {OBJECT}")
            number = heappop(self._free) if self._free else len(self._numbers)
            self._numbers[path] = number
        instance = self._instances[number] = Instance(OBJECT, number, resources)
        self._tlv[number] = payload_of_object((instance,), TLV)
        return number

    def drop(self, path: Path) -> None:
        """A lease is gone; one that was not there is no error."""
        number = self._numbers.pop(path, None)
        if number is not None:
            del self._instances[number], self._tlv[number]
            heappush(self._free, number)

    def clear(self) -> None:
        """There are none."""
        self._numbers.clear()
        self._instances.clear()
        self._tlv.clear()
        self._free.clear()

    @property
    def numbers(self) -> Iterable[int]:
        """The numbers of the instances that are there, in no order."""
        return self._instances.keys()

    def __len__(self) -> int:
        """How many instances there are."""
        return len(self._instances)

    def instance(self, number: int) -> Instance | None:
        """The instance of that number, or None."""
        return self._instances.get(number)

    def read(self, media_type: str, number: int | None = None, resource: int | None = None) -> bytes:
        """What a read of the object gives, of an instance, or of one of its resources; in one of `FORMATS`. Raises `NoSuchResource`."""
        if number is None and media_type == TLV:
            return b"".join(self._tlv[each] for each in sorted(self._tlv))
        if number is None:
            return payload_of_object((self._instances[each] for each in sorted(self._instances)), media_type)
        instance = self._instances.get(number)
        if instance is not None and resource is not None:
            value = instance.resources.get(resource)
            instance = None if value is None else Instance(OBJECT, number, {resource: value})
        if instance is None:
            raise NoSuchResource("/".join(map(str, ("", OBJECT, number, *(() if resource is None else (resource,))))))
        return payload(instance, media_type)
