"""What a view is given: who visits, what was asked, and the node as that visitor may see and change it.

Every read and write checks the visitor's rights, as the edges do: the pages can do nothing that a token of the same role could not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.admin.audit import Deed
from m2mapp.admin.live import Live
from m2mapp.admin.natural import natural
from m2mapp.admin.notices import Notice, Notices, State
from m2mapp.admin.sessions import Session
from m2mapp.formats.documents import JSON, dump_json, load_json
from m2mapp.model.errors import Fault, InternalError
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IHandle, IJournals
from m2mapp.model.messages import WRITES, Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY, Principal, Right
from m2mapp.store.threads import RunBlocking
from m2mapp.tree.access import check_access, needed
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Entry, Resource, Unit

_log = Logger()

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AdminNode:
    """What the pages stand on: the node's parts, as `wiring` and `node` made them.

    `handler` answers requests as it does those of the edges; `describe` is the document at `/node`; `unready` says why the node is not
    ready, `warnings` what it lacks all the same; `run_blocking` runs in a thread what would keep the reactor waiting; `registrations`
    are the devices of `/scls`, found; `peers` the URIs of other nodes, by name.
    """

    name: str
    state_dir: str
    handler: IHandle
    tree: Tree
    committer: ICommit
    journals: IJournals
    reactor: IReactorTime
    clock: IClock
    metrics: Metrics
    describe: Callable[[], Mapping[str, object]]
    unready: Callable[[], list[str]]
    warnings: Callable[[], list[str]]
    run_blocking: RunBlocking
    registrations: Registrations
    peers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a browser asked with: the query, and who and where it is."""

    query: Pairs = ()
    source: str = ""
    browser: str = ""
    secure: bool = False
    trace: str = ""


@dataclass(slots=True)
class Visit:
    """One visit to a page.

    `rest` is what follows the page's name in the path: `("grp7",)` of `/admin/groups/grp7`. `form` is what a POST brought. `fault`: what
    the visitor asked could not be done, and the page is shown again with the reason.
    """

    node: AdminNode
    live: Live
    notices: Notices
    asked: Asked
    session: Session | None = None
    principal: Principal = NOBODY
    fault: Fault | None = None
    page: str = ""
    rest: Path = ()
    form: Pairs = ()
    stamp: int = 0

    def __post_init__(self) -> None:
        """What changes from here on may be missing on the page: so it bears the stamp of now."""
        self.stamp = self.live.stamp

    # What was asked.

    def field(self, name: str, default: str = "") -> str:
        """The first value of a form's field, or the default."""
        return next((value for key, value in self.form if key == name), default)

    def fields(self, name: str) -> list[str]:
        """All values of a form's field, such as those of check boxes."""
        return [value for key, value in self.form if key == name]

    def query(self, name: str, default: str = "") -> str:
        """The first value of a key of the query, or the default."""
        return next((value for key, value in self.asked.query if key == name), default)

    @property
    def now_ms(self) -> int:
        """The wall clock's time, in milliseconds."""
        return self.node.clock.now_ms()

    # The node, as this visitor may see it.

    def may(self, right: Right, path: Path = ()) -> bool:
        """Whether the visitor has the right at the path: for what a page offers. It is checked again when it is done."""
        return self.principal.may(right, path)

    def may_read(self, path: Path) -> bool:
        """Whether the visitor may read at the path."""
        return self.may(needed(Method.GET, path), path)

    def may_write(self, path: Path) -> bool:
        """Whether the visitor may write at the path."""
        return self.may(needed(Method.PUT, path), path)

    def find(self, path: Path) -> Resource | None:
        """The resource at a path. Raises the `Fault` that says why the visitor may not read there."""
        check_access(self.principal, Method.GET, path)
        return self.node.tree.find(path)

    def children(self, path: Path, after: str | None = None, limit: int = 100) -> list[Resource]:
        """The resources right below a path, by name, from after a name on. Raises the `Fault` that says why not."""
        check_access(self.principal, Method.GET, path)
        return self.node.tree.children(path, after, limit)

    def part(self, path: Path, most: int) -> tuple[list[Resource], str | None]:
        """So many of the resources right below a path, behind the one that the query names, and the name behind which there are more.

        Where these are all, they are in the order that people expect, else in the tree's. Raises as `children`.
        """
        after = self.query("after") or None
        found = self.children(path, after, most + 1)
        if len(found) > most:
            return found[:most], found[most - 1].path[-1]
        return found if after else sorted(found, key=lambda one: natural(one.path[-1])), None

    async def journal(self, name: str, about: Path, limit: int = 100) -> list[Entry]:
        """The last entries of a journal, the oldest first, for who may read at the path that it is about. Raises `Fault`s."""
        check_access(self.principal, Method.GET, about)
        found: list[Entry] = await self.node.journals.read_journal(name, limit=limit, newest=True)
        return found

    async def send(self, request: Request) -> Response:
        """Send a request to this node, as the visitor, whoever it names; a write is entered in the audit list. Raises `Fault`s."""
        asked = request._replace(principal=self.principal, trace=self.asked.trace)
        if request.method not in WRITES:
            return await self._answer(asked)
        deed = self.deed(request.method.value, path_text(request.path))
        try:
            response = await self._answer(asked)
        except Fault as fault:
            await self._enter(replace(deed, outcome=f"{fault.title}: {fault.detail}"))
            raise
        await self._enter(replace(deed, where=path_text(response.location or request.path)))
        return response

    async def try_out(self, request: Request) -> Response:
        """Ask what a write would do, of a resource that tells that and does nothing: it is in no audit list. Raises `Fault`s."""
        return await self._answer(request._replace(principal=self.principal, trace=self.asked.trace))

    def deed(self, what: str, where: str = "") -> Deed:
        """What the visitor does, as it is entered in the audit list."""
        return Deed(self.principal.name, what, where, source=self.asked.source, trace=self.asked.trace)

    async def _enter(self, deed: Deed) -> None:
        await self.node.committer.commit(Unit(appends=(deed.entry(),), trace=deed.trace))

    async def _answer(self, asked: Request) -> Response:
        response: Response | None = await maybeDeferred(self.node.handler.handle, asked)
        if response is None:
            raise InternalError("no answer was given")
        return response

    async def document(self, path: Path, query: Pairs = ()) -> dict[str, object]:
        """The JSON document that a GET of the path gives. Raises `Fault`s."""
        response = await self.send(Request(Method.GET, path, query=query, accept=(JSON,)))
        found = load_json(response.payload)
        return found if isinstance(found, dict) else {}

    async def write_document(self, method: Method, path: Path, document: Mapping[str, object]) -> Response:
        """Send a JSON document. Raises `Fault`s."""
        return await self.send(Request(method, path, payload=dump_json(document), content_type=JSON))

    # What came of it.

    def done(self, text: str, detail: str = "") -> None:
        """Tell the visitor that something is done: only what is, such as a write that was answered."""
        self._notice(text, State.DONE, detail)

    def failed(self, text: str, detail: str = "") -> None:
        """Tell the visitor that something was not done."""
        self._notice(text, State.FAILED, detail)

    def asked_for(self, text: str, effect: Deferred[str]) -> None:
        """Tell the visitor that something was asked; it is done when the effect was seen: `effect` fires with words on it.

        Where it fails with a `Fault` or `NotSeen`, that is why it is not told as done.
        """
        notice = self._notice(text, State.ASKED, "")
        if self.session is None or notice is None:
            return
        session = self.session.id
        effect.addCallbacks(
            lambda detail: self.notices.settle(session, notice, State.DONE, detail), self._not_seen, errbackArgs=(session, notice)
        )

    def when(self, path: Path, holds: Callable[[Resource | None], str | None], within_s: float) -> Deferred[str]:
        """Fires when something holds of the resource at a path, as it is or when it or what is below it changes.

        `holds` gives the words on the effect, or None where it is not there yet. Fails with `NotSeen` when the time is over.
        """
        seen = Seeing(self.node, path, holds, within_s).seen
        self.notices.awaits(seen)
        return seen

    def touch(self, topic: str) -> None:
        """Tell all pages that show this topic that it has changed: for what is no resource."""
        self.live.touch(topic)

    def shown_notices(self) -> Iterable[Notice]:
        """The visitor's notices, the newest first."""
        return self.notices.shown(self.session.id) if self.session is not None else ()

    def _notice(self, text: str, state: State, detail: str) -> Notice | None:
        return self.notices.add(self.session.id, text, state, detail) if self.session is not None else None

    def _not_seen(self, failure: Failure, session: str, notice: Notice) -> None:
        if failure.check(CancelledError) is not None:
            failure = Failure(NotSeen("the node stopped meanwhile"))
        elif failure.check(Fault, NotSeen) is None:
            _log.failure("{trace} an effect could not be seen", failure, trace=self.asked.trace)
            failure = Failure(InternalError())
        self.notices.settle(session, notice, State.FAILED, str(failure.value))


class NotSeen(Exception):  # noqa: N818 - a fact for the visitor, not a mistake of the program
    """What was asked was taken, and its effect has not been seen in time: it may still come."""


class Seeing:
    """Looks at a resource until something holds of it. `seen` fires once; cancel it to look no more."""

    def __init__(self, node: AdminNode, path: Path, holds: Callable[[Resource | None], str | None], within_s: float) -> None:
        self._tree, self._path, self._holds = node.tree, path, holds
        self.seen: Deferred[str] = Deferred(lambda _: self._end())
        self._watch = node.tree.watch(path, self._look, subtree=True)
        self._late: IDelayedCall = node.reactor.callLater(within_s, self._on_late, within_s)
        self._look()

    def _look(self, _: Change | None = None) -> None:
        words = self._holds(self._tree.find(self._path))
        if words is not None and not self.seen.called:
            self._end()
            self.seen.callback(words)

    def _on_late(self, within_s: float) -> None:
        self._watch.stop()
        self.seen.errback(NotSeen(f"it was asked, and its effect was not seen within {within_s:g} s"))

    def _end(self) -> None:
        self._watch.stop()
        if self._late.active():
            self._late.cancel()
