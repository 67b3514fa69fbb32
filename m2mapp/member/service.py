"""The member role: joins and leaves with `/mcGroups`, and answers requests that come to the groups' addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.formats.documents import CBOR, LINK_FORMAT, RESULTS_CBOR, content_value, dump_cbor
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.member.announcement import announced
from m2mapp.member.listing import listing
from m2mapp.member.mc_group import MC_GROUP, MC_GROUPS, Local, McGroup, mapped, mc_group_of
from m2mapp.model.errors import Fault, InternalError, Overloaded, PeerFailed, TooLarge
from m2mapp.model.identifiers import path_text
from m2mapp.model.interfaces import ICommit, IHandle, IMembership, IRequester
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.net.alarm import Alarm
from m2mapp.tree.access import check_access
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Write
from m2mapp.tree.watch import Watch

JOIN_AGAIN_S = 5.0
"""How often a join that the system refused is tried again: interfaces come up late on a box that just started."""
MAX_MC_GROUPS = 4096
"""So many groups this node is in at most; one socket holds 20 addresses of IPv4, about 2,300 of IPv6, and `net.udp` opens more."""
ELSEWHERE_S = 30.0
"""How long a member elsewhere is waited for, where the request says nothing."""

_CODES = {Status.CREATED: "2.01", Status.DELETED: "2.02", Status.VALID: "2.03", Status.CHANGED: "2.04", Status.CONTENT: "2.05"}
_CREATED = ("2.01", "201")
_DONE = {Method.GET: Status.CONTENT, Method.DELETE: Status.DELETED}

_Outcome = TypeVar("_Outcome", Response, Failure)

_log = Logger(namespace="m2mapp.member")


@implementer(IHandle)
class MemberService(Service):
    """The groups that this node is a member of.

    `answer_here` answers a request to one of the node's own paths (the dispatcher's `handle_unicast`). `code_of_fault`: the code of a
    fault's kind, for the members of a joined answer; it may be set later.
    """

    def __init__(
        self, reactor: IReactorTime, tree: Tree, rules: ResourceRules, committer: ICommit, membership: IMembership, metrics: Metrics
    ) -> None:
        self._reactor, self._tree, self._rules = reactor, tree, rules
        self._committer, self._membership = committer, membership
        self._by_address: dict[str, dict[str, McGroup]] = {}
        self._joined: dict[str, None] = {}
        # Writes under way that need an address: it is not left while there are any.
        self._needed: Counter[str] = Counter()
        self._alarm = Alarm(reactor, self._join_again)
        self._watch: Watch | None = None
        self._answer_here: Callable[[Request], Response | Deferred[Response]] | None = None
        self._requester: IRequester | None = None
        self._is_own: Callable[[Uri], bool] = lambda _: False
        self.code_of_fault: Callable[[str], str] = lambda _: "5.00"
        self._answered = metrics.counter("m2mapp_member_requests_total", "Group requests that concerned this node.")
        self._ignored = metrics.counter("m2mapp_member_ignored_total", "Requests to a group address that no mcGroup is for.")
        metrics.gauge("m2mapp_member_groups", "Multicast addresses joined for groups.", lambda: len(self._joined))

    def connect(
        self,
        answer_here: Callable[[Request], Response | Deferred[Response]],
        requester: IRequester,
        is_own: Callable[[Uri], bool] = lambda _: False,
    ) -> None:
        """Say who answers for the node's own paths, who asks elsewhere, and which URIs are this node's. Called once, before the start."""
        self._answer_here, self._requester, self._is_own = answer_here, requester, is_own

    def startService(self) -> None:
        """Join what the tree says."""
        super().startService()
        for resource in self._tree.children(MC_GROUPS):
            group = mc_group_of(resource)
            self._by_address.setdefault(group.address, {})[group.name] = group
        self._watch = self._tree.watch(MC_GROUPS, self._on_change, subtree=True)
        self._join_missing()

    def stopService(self) -> None:
        """Leave; what is in the tree is joined again at the next start."""
        super().stopService()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._alarm.stop()
        for address in self._joined:
            self._membership.leave(address)
        self._joined.clear()
        self._by_address.clear()

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """A request at `/mcGroups` or below. An address is joined before the write is committed and confirmed."""
        if request.method is Method.GET and request.path == MC_GROUPS and request.accept[:1] != (LINK_FORMAT,):
            return listing(self._tree, request)
        decision = self._rules.decide(request)
        if isinstance(decision, Response):
            return decision
        for change in decision.unit.changes:
            if isinstance(change, Write) and change.type == MC_GROUP:
                self._check_room(change)
                return self._join_then(decision, str(change.attributes["mcAddress"]))
        return execute(self._committer, decision)

    def handle_multicast(self, request: Request) -> Response | Deferred[Response] | None:
        """A request that came to a multicast address; None: silence (figure 3-A)."""
        if request.path == MC_GROUPS and request.method is Method.POST:
            return self._advertised(request)
        groups = self._by_address.get(request.multicast.group) if request.multicast is not None else None
        found = mapped(groups.values(), request.path) if groups else None
        if found is None:
            self._ignored.add()
            return None
        self._answered.add()
        group, locals_ = found
        if len(locals_) == 1:
            return self._leisurely(request, locals_[0], group.leisure_s)
        asked = gatherResults([self._outcome(request, local) for local in locals_])
        return asked.addCallback(self._joined_answer, request, locals_, group.leisure_s)

    def _advertised(self, request: Request) -> Response | Deferred[Response] | None:
        """An advertisement to many: done as if it had come to this node alone, where this node is named; None: silence."""
        try:
            check_access(request.principal, request.method, request.path)
            told = announced(request.payload, request.content_type, self._is_own)
        except Fault as fault:
            self._ignored.add()
            _log.info(
                "{trace} an advertisement of {source}: {fault}", trace=request.trace, source=request.principal.name, fault=fault.detail
            )
            return None
        if told is None:
            self._ignored.add()
            return None
        path = (*MC_GROUPS, told.name)
        write = request._replace(method=Method.DELETE, path=path, payload=b"", content_type=None, multicast=None)
        if told.document is not None:
            write = write._replace(method=Method.PUT, payload=dump_cbor(told.document), content_type=CBOR)
        return self._leisurely(write, Local(path_text(path), path), told.leisure_s)

    def _leisurely(self, request: Request, local: Local, leisure_s: float) -> Response | Deferred[Response]:
        """What one member answers, be it a fault, with the group's leisure time."""

        def slow_down(failure: Failure) -> Failure:
            if isinstance(failure.value, Fault):
                failure.value.leisure_s = leisure_s
            return failure

        try:
            answered = self._ask(request, local)
        except Fault as fault:
            fault.leisure_s = leisure_s
            raise
        if isinstance(answered, Response):
            return answered._replace(leisure_s=leisure_s)
        return answered.addCallbacks(lambda response: response._replace(leisure_s=leisure_s), slow_down)

    # Joining and leaving.

    def _check_room(self, write: Write) -> None:
        if self._tree.expected(write.path) is None and sum(map(len, self._by_address.values())) >= MAX_MC_GROUPS:
            raise TooLarge("mcGroups", MAX_MC_GROUPS, "groups that this node is in")

    def _join_then(self, decision: Decision, address: str) -> Response | Deferred[Response]:
        """Join, then commit. Raises `Overloaded` where the system refuses the join; then nothing has changed."""
        if address not in self._joined:
            try:
                self._join(address)
            except OSError as error:
                raise Overloaded(f"mcAddress: {address} cannot be joined: {error.strerror or error}", retry_after_s=60) from error
        self._needed[address] += 1
        answered = execute(self._committer, decision)
        return answered.addBoth(self._written, address) if isinstance(answered, Deferred) else self._written(answered, address)

    def _join(self, address: str) -> None:
        try:
            self._membership.join(address)
        except OSError:
            self._membership.leave(address)  # Some interfaces may have joined.
            raise
        self._joined[address] = None

    def _written(self, result: _Outcome, address: str) -> _Outcome:
        self._needed[address] -= 1
        if self._needed[address] <= 0:
            del self._needed[address]
        if isinstance(result, Failure):
            self._leave_unused(address)
        return result

    def _on_change(self, change: Change) -> None:
        before = mc_group_of(change.before) if change.before is not None and change.before.type == MC_GROUP else None
        after = mc_group_of(change.after) if change.after is not None and change.after.type == MC_GROUP else None
        if before is not None:
            groups = self._by_address.get(before.address, {})
            groups.pop(before.name, None)
            if not groups:
                self._by_address.pop(before.address, None)
        if after is not None:
            self._by_address.setdefault(after.address, {})[after.name] = after
            self._join_missing()
        if before is not None:
            self._leave_unused(before.address)

    def _leave_unused(self, address: str) -> None:
        if address in self._joined and address not in self._by_address and address not in self._needed:
            del self._joined[address]
            self._membership.leave(address)

    def _join_missing(self) -> None:
        missing = False
        for address in self._by_address:
            try:
                if address not in self._joined:
                    self._join(address)
            except OSError as error:
                missing = True
                _log.warn("{address} cannot be joined, again in {s} s: {error}", address=address, s=JOIN_AGAIN_S, error=error)
        if missing and not self._alarm.is_set:
            self._alarm.set(JOIN_AGAIN_S)

    def _join_again(self) -> None:
        self._join_missing()

    # Answering.

    def _ask(self, request: Request, local: Local) -> Response | Deferred[Response]:
        if local.elsewhere is None:
            return self._here(request._replace(path=local.path, multicast=None))
        if self._requester is None:
            raise InternalError("the member role is not connected")
        uri = parse_uri(local.elsewhere)
        query = (*uri.query, *request.query)
        if self._is_own(uri):
            return self._here(request._replace(path=uri.path, query=query, multicast=None))
        check_access(request.principal, request.method, local.path)
        outgoing = Outgoing(
            method=request.method,
            uri=Uri(uri.scheme, uri.host, uri.port, uri.path, query).text(),
            payload=request.payload,
            content_type=request.content_type,
            accept=request.accept[0] if request.accept else None,
            timeout_s=ELSEWHERE_S if request.deadline is None else max(0.0, request.deadline - self._reactor.seconds()),
            trace=request.trace,
            request_id=request.request_id,
            cause=request.cause,
            principal=request.principal,
            of_group=True,
            requester=request.requester,
        )
        answered: Deferred[Answer] = self._requester.send(outgoing)
        return answered.addCallback(_as_response, request.method)

    def _here(self, request: Request) -> Response | Deferred[Response]:
        if self._answer_here is None:
            raise InternalError("the member role is not connected")
        return self._answer_here(request)

    def _outcome(self, request: Request, local: Local) -> Deferred[Response | Fault]:
        try:
            answered = self._ask(request, local)
        except Fault as fault:
            return succeed(fault)
        if isinstance(answered, Response):
            return succeed(answered)
        return answered.addErrback(_as_fault)

    def _joined_answer(self, outcomes: list[Response | Fault], request: Request, locals_: list[Local], leisure_s: float) -> Response:
        document: dict[str, object] = {}
        for local, outcome in zip(locals_, outcomes, strict=True):
            if isinstance(outcome, Fault):
                code = self.code_of_fault(outcome.kind)
                document[local.member] = {"status": code, "contentType": "text/plain", "content": outcome.detail}
            else:
                entry: dict[str, object] = {"status": _CODES[outcome.status]}
                if outcome.payload or outcome.content_type:
                    entry["contentType"] = outcome.content_type
                    entry["content"] = content_value(outcome.payload, outcome.content_type)
                document[local.member] = entry
        status = Status.CONTENT if request.method is Method.GET else Status.CHANGED
        return Response(status, dump_cbor({"members": document}), RESULTS_CBOR, leisure_s=leisure_s)


def _as_fault(failure: Failure) -> Fault:
    if isinstance(failure.value, Fault):
        return failure.value
    _log.failure("a member of this node failed", failure)
    return InternalError()


def _as_response(answer: Answer, method: Method) -> Response:
    if not answer.ok:
        raise PeerFailed(f"the member elsewhere answered {answer.code}")
    status = Status.CREATED if answer.code in _CREATED else _DONE.get(method, Status.CHANGED)
    return Response(status, answer.payload, answer.content_type)
