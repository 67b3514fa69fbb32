"""A house with operations and timers: the real service of them over the house's tree, with requests that a test answers."""

from __future__ import annotations

from collections.abc import Callable

from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.types import ANYWHERE
from m2mapp.triggers.places import OPERATIONS
from m2mapp.triggers.service import TriggerNode, TriggerService
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.timers import timer_type
from m2mapp.triggers.types import operation_types
from tests.unit.admin.harness import House
from tests.unit.fakes import RecordingRequester
from tests.unit.triggers.gateway import Later


class OperatingHouse:
    """A house, the service of its operations, and what these sent. `reply` answers their requests: 2.04, and a GET somebody at home."""

    def __init__(self, reply: Callable[[Outgoing], Answer | Fault | None] | None = None) -> None:
        later = Later()
        self.house = House(
            (*operation_types(later.shown), timer_type(lambda: self.house.built.clock.now_ms())), {(ANYWHERE, OPERATIONS): later}
        )
        built = self.house.built
        self.requester = RecordingRequester(reply or _at_home)
        node = TriggerNode(
            tree=built.tree,
            rules=built.rules,
            committer=built.committer,
            journals=built.committer,
            clock=built.clock,
            requester=self.requester,
            registrations=Registrations(built.tree),
            touch=lambda _: None,
            node_uri="http://gw.example.org",
            own=_own,
            current=lambda principal: principal,
        )
        self.service = later.service = TriggerService(self.house.clock, node, TriggerSettings(), Metrics())
        self.service.startService()
        self.service.restore()

    def stop(self) -> None:
        """Stop in order."""
        self.service.stopService()
        self.house.stop()


def _at_home(asked: Outgoing) -> Answer:
    return Answer("2.05", b"at home", "text/plain") if asked.method is Method.GET else Answer("2.04")


def _own(uri: str) -> Path | None:
    found = parse_uri(uri)
    return found.path if found.host == "gw.example.org" else None
