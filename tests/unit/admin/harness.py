"""The pages of a node without sockets for tests: the real HTTP edge, tree and site, and visitors that keep cookies as browsers do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from tempfile import mkdtemp
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from m2mapp.admin import passwords
from m2mapp.admin.records import RECORD_TYPES
from m2mapp.admin.service import AdminService
from m2mapp.admin.visit import AdminNode
from m2mapp.http.book import Connections
from m2mapp.http.connection import ChannelFactory
from m2mapp.http.events import Streams
from m2mapp.http.limits import HttpLimits
from m2mapp.http.lines import LinePages
from m2mapp.http.metrics import pages
from m2mapp.http.resource import Edge, Parts
from m2mapp.http.tokens import Tokens
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.model.metrics import Metrics
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.types import ResourceType
from tests.unit.fakes import Built, build_tree
from tests.unit.http.harness import ADMIN, HOST, PRINCIPALS, Answer, Client, encode

PASSWORD = "a few words of no meaning"
ORIGIN = "http://gateway.example.org"


def now(call: Callable[[], object], /) -> Deferred[object]:
    """Runs at once what would run in a thread."""
    return maybeDeferred(call)


@dataclass
class House:
    """One node with its pages. `restart` builds them anew on the same tree, as a start of the process does."""

    types: Iterable[ResourceType] = ()
    routes: dict[Path, IHandle] = field(default_factory=dict)
    roles: list[str] = field(default_factory=lambda: ["http"])

    def __post_init__(self) -> None:
        self.built: Built = build_tree([*RECORD_TYPES, *self.types], routes=self.routes)
        self.state_dir = mkdtemp(dir=".")
        self.clock = Clock()
        self.clock.advance(1000)
        self.unready: list[str] = []
        self.start()

    def start(self) -> None:
        """Build the pages and the edge on what there is."""
        built, self.metrics = self.built, Metrics()
        limits = HttpLimits()
        self.tokens = Tokens(PRINCIPALS, self.clock, limits.failed_sign_ins)
        node = AdminNode(
            name="gw.example.org",
            state_dir=self.state_dir,
            handler=built.dispatcher,
            tree=built.tree,
            committer=built.committer,
            journals=built.committer,
            reactor=self.clock,
            clock=built.clock,
            metrics=self.metrics,
            describe=lambda: {"name": "gw.example.org", "version": "1", "roles": self.roles},
            unready=lambda: self.unready,
            warnings=list,
            run_blocking=now,  # type: ignore[arg-type]
            registrations=Registrations(built.tree),
        )
        self.node = node
        self.admin = AdminService(node, self.tokens)
        self.connections = Connections(limits, self.clock, built.clock, self.metrics)
        streams = Streams(built.tree, built.committer, self.clock, limits, self.metrics)
        readiness = pages(self.metrics, node.unready, node.warnings)
        parts = Parts(self.admin.recorder, self.tokens, streams, readiness, LinePages({}, streams.outlets), self.admin.site)
        edge = Edge(parts, self.connections, self.clock, self.metrics, log_requests=False)
        self.factory = ChannelFactory(self.connections, edge.serve)
        self.admin.startService()

    def stop(self) -> None:
        """Stop in order; nothing is pending afterwards."""
        self.admin.stopService()
        for channel in tuple(self.connections.open):
            channel.abort()

    def restart(self) -> None:
        """Stop, and start again."""
        self.stop()
        self.start()

    def visitor(self, host: str = HOST) -> Visitor:
        """A browser that has never been here."""
        return Visitor(self, host)

    def signed_in(self, token: str = ADMIN) -> Visitor:
        """A browser that has signed in with a token."""
        visitor = self.visitor()
        answer = visitor.post("/admin/sign-in", do="token", token=token)
        assert answer.code == 303, answer
        return visitor

    @property
    def code(self) -> str:
        """The one-time code."""
        with open(f"{self.state_dir}/admin.code") as file:
            return file.read()


class Visitor:
    """One browser: it keeps the cookie, and sends the token of the session with each form, as the pages have it."""

    def __init__(self, house: House, host: str) -> None:
        self._house, self._host = house, host
        self.cookie = ""
        self.csrf = ""

    def get(self, target: str, **fields: str) -> Answer:
        """GET of a page; what came of the session's token is kept."""
        answer = self.request("GET", target, **fields)
        found = re.search(rb'name="csrf" value="([0-9a-f]+)"', answer.body)
        if found:
            self.csrf = found[1].decode()
        return answer

    def post(self, target: str, origin: str | None = ORIGIN, **form: str) -> Answer:
        """POST of a form; `do` names the action."""
        return self.answer_to(self.start_post(target, origin, **form))

    def start_post(self, target: str, origin: str | None = ORIGIN, **form: str) -> Client:
        """POST of a form whose answer may still have to come."""
        if self.cookie and not self.csrf:
            self.get("/admin/account")
        body = urlencode({"csrf": self.csrf, **form}).encode()
        fields = {"Content_Type": "application/x-www-form-urlencoded", **({"Origin": origin} if origin else {})}
        return self._send("POST", target, body, fields)

    def start_get(self, target: str) -> Client:
        """GET of a page whose answer may still have to come."""
        return self._send("GET", target, b"", {})

    def request(self, method: str, target: str, **fields: str) -> Answer:
        """Any request without a body."""
        return self.answer_to(self._send(method, target, b"", fields), head=method == "HEAD")

    def stream(self) -> Client:
        """The event stream of the pages."""
        return self._send("GET", "/admin/events", b"", {})

    def answer_to(self, client: Client, *, head: bool = False) -> Answer:
        """The answer that has come; a new cookie is kept."""
        found = client.answers(head=head)
        assert len(found) == 1, found
        client.leave()
        cookie = found[0].headers.get("set-cookie")
        if cookie is not None:
            self.cookie, self.csrf = cookie.partition(";")[0], ""
        return found[0]

    def _send(self, method: str, target: str, body: bytes, fields: dict[str, str]) -> Client:
        client = Client(self._house.factory, self._host)
        cookie = {"Cookie": self.cookie} if self.cookie else {}
        client.send(encode(method, target, body, None, **cookie, **fields))
        return client


def cheap_passwords(patch: Callable[[object, str, object], object]) -> None:
    """Make scrypt fast: what is shown here does not depend on how slow it is. `patch` is that of a trial test case."""
    patch(passwords, "_LOG2_N", 2)
    patch(passwords, "_P", 1)
