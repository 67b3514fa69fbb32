"""A gateway with devices on several segments, a hundred and more in a process, whose datagrams can get lost for each one by itself.

    with crowd(300) as site:
        site.group("all", "/temperature")
        site.lose_requests(True)

Responsible for starting and registering them, for losing datagrams, and for what the devices wrote to their disks. Not responsible for what
is expected.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from m2mapp.store.database import DATABASE_NAME
from m2mapp.store.files import connect_to_read
from m2mapp.store.journals import read_entries
from m2mapp.tree.unit import values_journal
from tests.system.namespaces import Host, wait_until
from tests.system.nodes import Device, Devices, Gateway, Site
from tests.system.programs import Place

JOINED = ("joined", "proven")
_WHOLE_JOURNAL = 100
"""The values that a device keeps."""
_JOINS_S = 120.0
_NEIGHBOURS = Path("/proc/sys/net/ipv6/neigh/default/gc_thresh3")
_ROOM = 8_192


class LossyDevices(Devices):
    """Devices that can lose what is sent to them, each socket by itself: see `lossy_child`."""

    def __init__(self, place: Place, folder: Path, name: str, devices: Sequence[Device], share: float) -> None:
        super().__init__(place, folder, name, devices)
        self._share = share

    def command(self) -> list[str]:
        """What is run."""
        program = [sys.executable, "-m", "tests.system.lossy_child", str(self._share)]
        return [*program, "--nodaemon", "--pidfile=", "m2m", "--config", str(self.config)]


@dataclass(frozen=True)
class Crowd:
    """The gateway, which has an interface on each segment, and the devices, one process a segment."""

    site: Site
    host: Host
    gateway: Gateway
    segments: tuple[LossyDevices, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices."""
        return tuple(device for segment in self.segments for device in segment.devices)

    @property
    def interfaces(self) -> list[str]:
        """The gateway's interfaces, one for each segment."""
        return [f"eth{number}" for number in range(len(self.segments))]

    def register(self, devices: Sequence[Device]) -> None:
        """Register devices at the gateway."""
        with self.gateway.caller() as caller:
            for device in devices:
                reply = caller.request("PUT", f"/scls/{device.name}", json.dumps(device.registration), "application/json")
                assert reply.status in (201, 204), reply

    def group(self, name: str, path: str, more: Sequence[Device] = (), **given: object) -> list[str]:
        """Make a group of a path of all devices; its members, when each device has joined."""
        members = [device.uri(path) for device in (*self.devices, *more)]
        self.gateway.put_document(f"/groups/{name}", {"members": members, **given})
        self.await_joins(name, len(self.devices))
        return members

    def await_joins(self, name: str, count: int) -> None:
        """Return when so many members have joined."""
        wait_until(lambda: len(self.joined(name)) >= count, _JOINS_S, f"{count} joins of {name}")

    def joined(self, name: str) -> set[str]:
        """The members whose join is confirmed."""
        sets = self.gateway.get(f"/groups/{name}").json()["fanoutSets"]
        assert isinstance(sets, list)
        return {uri for one in sets for uri, join in one["joins"].items() if join in JOINED}

    def lose_requests(self, lose: bool) -> None:
        """From now on each device loses its share of what comes to it, or loses nothing more."""
        for segment in self.segments:
            segment.signal(signal.SIGUSR1 if lose else signal.SIGUSR2)

    def lose_answers(self, share: float) -> None:
        """From now on the gateway loses this share of what comes to it, each datagram by itself."""
        self.host.lose(share)

    def written(self, device: Device, path: str) -> list[str]:
        """The values that the device has written to its disk, one for each write, the newest hundred in order."""
        for segment in self.segments:
            if device in segment.devices:
                file = self.site.folder / f"{segment.name}-{device.name}-state" / DATABASE_NAME
        with closing(connect_to_read(file)) as connection:
            entries = read_entries(connection, values_journal((path.strip("/"),)), (0, 1 << 62), _WHOLE_JOURNAL, newest=True)
        contents = [entry.body["content"] for entry in entries]
        return [content.decode() if isinstance(content, bytes) else str(content) for content in contents]


@contextlib.contextmanager
def _room_for_neighbours() -> Iterator[None]:
    """The kernel counts the neighbours of all namespaces together: without more room a crowd takes that of the tests beside it."""
    before = _NEIGHBOURS.read_text()
    with contextlib.suppress(OSError):  # a container may not: then there is what there is
        _NEIGHBOURS.write_text(str(max(int(before), _ROOM)))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _NEIGHBOURS.write_text(before)


@contextlib.contextmanager
def crowd(count: int, segments: int = 2, share: float = 0.2) -> Iterator[Crowd]:
    """A gateway and so many devices, all registered; nothing is lost before it is told."""
    with _room_for_neighbours(), Site() as site:
        host = site.host("gw", ["fd00:1::1/64"])
        for number in range(1, segments):
            host.connect(_link(number), [f"fd00:{number + 1}::1/64"], f"eth{number}")
        interfaces = [f"eth{number}" for number in range(segments)]
        gateway = Gateway(host, site.folder, "gw", {"coap": {"listen": ["[::]:5683"], "interfaces": interfaces}, "groups": {}})
        found = []
        for number in range(segments):
            devices = [Device(f"d{index}", f"fd00:{number + 1}::1:{index:x}") for index in range(count) if index % segments == number]
            name = f"devices{number}"
            place = site.lab.host(name, [f"{device.address}/64" for device in devices], _link(number))
            found.append(LossyDevices(place, site.folder, name, devices, share))
        for program in (gateway, *found):
            site.add(program)
            program.start(wait=False)
        site.ready()
        made = Crowd(site, host, gateway, tuple(found))
        made.register(made.devices)
        yield made


def _link(number: int) -> str:
    return "lan" if number == 0 else f"lan{number}"
