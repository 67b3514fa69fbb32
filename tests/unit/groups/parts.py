"""What the tests of the groups share: devices, a tree with groups in it, a whole group service on fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from random import Random
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import load_cbor
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.elsewhere import Elsewhere
from m2mapp.groups.group import AddressType, FanoutSet, Join, group_types, sets_of
from m2mapp.groups.leaves import LEAVE_TYPE
from m2mapp.groups.lending import LENDING_TYPES
from m2mapp.groups.plan import Member
from m2mapp.groups.pool import Network
from m2mapp.groups.service import GroupNode, GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE
from m2mapp.registry.scl import SCL_TYPE, check
from m2mapp.tree.paths import parse_path
from m2mapp.tree.registrations import SCL, SCLS, Device, Registrations
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import Built, RecordingGroupSender, RecordingRequester, build_tree

T = TypeVar("T")


class AtOnce(Random):
    """No chance: what is spread at random is not."""

    def random(self) -> float:
        return 0.0


class DeviceRequester(RecordingRequester):
    """Records what is sent, but for the questions what devices hold: these have their answer at once (`shows`), and stand in `checked`.

    At first no device shows what it holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.checked: list[str] = []
        self.shows: Callable[[Outgoing], Answer | Fault] = lambda _: Answer("4.05")

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        """As said."""
        if outgoing.method is not Method.GET or not outgoing.uri.endswith("/mcGroups?limit=1000"):
            return super().send(outgoing)
        self.checked.append(outgoing.uri)
        shown = self.shows(outgoing)
        return fail(shown) if isinstance(shown, Fault) else succeed(shown)


NODE_NAME = "g1.example.org"
POOL: tuple[Network, ...] = (ip_network("ff35:30:3ffe:ffff:1::8000:0/120"), ip_network("239.255.1.0/24"))
FIRST_ADDRESS, SECOND_ADDRESS = "ff35:30:3ffe:ffff:1:0:8000:0", "ff35:30:3ffe:ffff:1:0:8000:1"


def soon(call: Callable[[], T | Deferred[T]]) -> Deferred[T]:
    """What a call gives, or raises, as a Deferred."""
    try:
        answered = call()
    except Exception:  # noqa: BLE001 - whatever it is, the test looks at it
        return fail()
    return answered if isinstance(answered, Deferred) else succeed(answered)


def build_device(number: int, **more: object) -> Device:
    """Device d<number>, registered with its host and one address of IPv6, that takes multicast."""
    given: dict[str, object] = {
        "name": f"d{number}",
        "hosts": (f"d{number}.example.org",),
        "addresses": (f"fd00::d{number}",),
        "port": 5683,
        "scheme": "coap",
        "multicast_enabled": True,
        "group_server": False,
        "mc_groups": "/mcGroups",
        "fixed_groups": (),
        **more,
    }
    return Device(**given)  # type: ignore[arg-type]


def member_at(number: int, path: str = "/t", **more: object) -> Member:
    """The member of device d<number> at a path."""
    return Member(parse_uri(f"coap://d{number}.example.org{path}"), build_device(number, **more))


def uri_at(number: int, path: str = "/t") -> str:
    """The URI of that member."""
    return f"coap://d{number}.example.org{path}"


def build_set(members: Iterable[str], **more: object) -> FanoutSet:
    """A multicast set named 1 with the first address and the path /t; its members are pending."""
    uris = tuple(members)
    joins = dict.fromkeys(uris, Join.PENDING)
    whole = FanoutSet("1", AddressType.MULTICAST_IPV6, FIRST_ADDRESS, 5683, ("t",), uris, joins, dict.fromkeys(uris, "same path"))
    return replace(whole, **more)  # type: ignore[arg-type]


def answer(code: str = "2.05", payload: bytes = b"21.5", source: str = "fd00::d1", port: int = 5683, **more: object) -> Answer:
    """A device's answer."""
    return Answer(code, payload, **{"content_type": "text/plain", "source": source, "port": port, **more})  # type: ignore[arg-type]


@dataclass
class Groups:
    """A group service on fakes. Devices and groups are written to its tree by the methods."""

    built: Built
    clock: Clock
    requester: DeviceRequester
    sender: RecordingGroupSender
    service: GroupService
    own: set[str] = field(default_factory=set)
    asked: list[Deferred[Response]] = field(default_factory=list)

    def register(self, number: int, **more: object) -> None:
        """A device registers; `more` are members of its document."""
        given = {"hosts": [f"d{number}.example.org"], "addresses": [f"fd00::d{number}"], "multicastEnabled": True, **more}
        self.built.committer.commit(Unit((Write((*SCLS, f"d{number}"), SCL, check("", given)),)))

    def deregister(self, number: int) -> None:
        """Its registration ends."""
        self.built.committer.commit(Unit((Remove((*SCLS, f"d{number}")),)))

    def send(self, method: Method, path: str, document: object = None, **more: object) -> Deferred[Response]:
        """A request to the service; a document goes as JSON."""
        done = soon(lambda: self.service.handle(build_request(method, path, document, **more)))
        self.asked.append(done)
        return done

    def make(self, members: Iterable[str], name: str = "g", **more: object) -> Deferred[Response]:
        """Make a group."""
        return self.send(Method.POST, "/groups", {"name": name, "members": list(members), **more})

    def sets(self, name: str = "g") -> list[FanoutSet]:
        """The fan-out sets of a group."""
        return sets_of(self.built.tree, name)

    def join_all(self) -> None:
        """Confirm every advertisement that waits; the book is written."""
        for place in self.requester.waiting:
            self.requester.answer(place, Answer("2.04"))
        self.clock.advance(1.0)

    def told(self) -> list[str]:
        """What devices were told so far: method and URI of each advertisement."""
        return [f"{outgoing.method.value} {outgoing.uri}" for outgoing in self.requester.sent]


def build_request(method: Method, path: str, document: object = None, **more: object) -> Request:
    """A request with a JSON document."""
    given: dict[str, object] = {"principal": NODE, **more}
    if document is not None:
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        given = {"payload": payload, "content_type": "application/json", **given}
    return Request(method, parse_path(path), **given)  # type: ignore[arg-type]


GROUP_TYPES = (SCL_TYPE, *group_types(lambda name: f"http://{NODE_NAME}/groups/{name}"), LEAVE_TYPE, *LENDING_TYPES)


def build_groups(
    devices: int = 0,
    settings: GroupSettings | None = None,
    pool: tuple[Network, ...] = POOL,
    peers: Mapping[str, str] | None = None,
    built: Built | None = None,
) -> Groups:
    """A group service that runs, with so many devices registered, and these peers; on a tree of its own, or on `built`."""
    own: set[str] = {NODE_NAME}
    built = built or build_tree(GROUP_TYPES)
    clock, requester, sender = Clock(), DeviceRequester(), RecordingGroupSender()

    def is_own(uri: Uri) -> bool:
        return uri.host in own

    registrations = Registrations(built.tree)
    around = Surroundings(
        built.tree, registrations, is_own, settings or GroupSettings(), Elsewhere(registrations), NODE_NAME, f"http://{NODE_NAME}"
    )
    committer = built.committer
    node = GroupNode(
        NODE_NAME, around, lambda: pool, built.rules, committer, committer, built.clock, requester, sender, AtOnce(), peers or {}
    )
    groups = Groups(built, clock, requester, sender, GroupService(clock, node, Metrics()), own)
    groups.service.startService()
    for number in range(1, devices + 1):
        groups.register(number)
    clock.advance(1.0)
    return groups


def told_document(outgoing: Outgoing) -> object:
    """The document of an advertisement."""
    return load_cbor(outgoing.payload)


class GroupCase(SynchronousTestCase):
    """A test case that ends its group services and finds nothing pending then."""

    def build(
        self,
        devices: int = 0,
        settings: GroupSettings | None = None,
        pool: tuple[Network, ...] = POOL,
        peers: Mapping[str, str] | None = None,
    ) -> Groups:
        """See `build_groups`."""
        groups = build_groups(devices, settings, pool, peers)
        self.addCleanup(self._end, groups)
        return groups

    def _end(self, groups: Groups) -> None:
        groups.service.stopService()
        for done in groups.asked:
            # What a test does not look at ends in some fault by now.
            done.addErrback(lambda failure: failure.trap(Fault) and None)
        self.assertEqual(groups.clock.getDelayedCalls(), [])
        self.assertEqual(groups.requester.waiting, [])
        self.assertEqual(groups.built.errors, [])
