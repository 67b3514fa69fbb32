"""Tells other nodes what this one wants of them: groups for members that are registered there, and global addresses.

Follows the fan-out sets and the records of what is held (`lending`). What another node has to be told is read from the tree when it is
told; a record stays until that node has heard that it is not wanted any more, however often either of them starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import JSON, bare, dump_json, load_cbor, load_json
from m2mapp.formats.uris import parse_uri, path_uri
from m2mapp.groups.advertisement import pause_s
from m2mapp.groups.dialogue import TIMEOUT_S
from m2mapp.groups.drivers.attempts import Attempts
from m2mapp.groups.drivers.joins import JoinBook
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.group import FANOUT_SET, GROUPS, FanoutSet, Join, is_multicast_address, sets_of
from m2mapp.groups.lending import HELD, HELD_AT, LEASE_S, Held, held_name, held_of, user_of
from m2mapp.groups.subgroup import end_request, make_request
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import ICommit, IRequester
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.unit import Change, Remove, Unit
from m2mapp.tree.watch import Watch

AT_ONCE = 16
_GONE = frozenset({"404", "4.04", "410"})

_log = Logger(namespace="m2mapp.groups.held")


class HeldKeeper:
    """What this node has at others.

    `on_lost` is told the name of a group whose borrowed address is not its own any more.
    """

    def __init__(
        self,
        *,
        reactor: IReactorTime,
        requester: IRequester,
        around: Surroundings,
        committer: ICommit,
        book: JoinBook,
        on_lost: Callable[[str], None],
    ) -> None:
        self._reactor, self._requester, self._tree, self._committer, self._book = reactor, requester, around.tree, committer, book
        self._group_uri, self._server, self._on_lost = around.group_uri, around.settings.address_server, on_lost
        self._lent: dict[str, dict[str, str]] = {}
        self._told: dict[str, tuple[str, ...]] = {}
        self._renewed: dict[str, tuple[float, float]] = {}
        self._tasks = Attempts(reactor, AT_ONCE, self._tell)
        self._watches: list[Watch] = []

    @property
    def depth(self) -> int:
        """How many records are not settled: told again, or waited for."""
        return len(self._tasks)

    def start(self) -> None:
        """Go on where the last run of the program ended."""
        for resource in self._tree.children(HELD_AT):
            self._enter(held_of(resource))
            self._tasks.add(resource.path[-1])
        self._watches = [
            self._tree.watch(HELD_AT, self._on_record, subtree=True),
            self._tree.watch(GROUPS, self._on_set, subtree=True),
        ]
        self._tasks.work()

    def stop(self) -> None:
        """Tell nobody anything further."""
        for watch in self._watches:
            watch.stop()
        self._watches.clear()
        for state in (self._told, self._renewed, self._lent):
            state.clear()
        self._tasks.stop()

    @property
    def can_borrow(self) -> bool:
        """Whether there is a node to ask for global addresses."""
        return bool(self._server)

    def lent(self, group: str) -> Mapping[str, str]:
        """The global addresses that another node has lent this group, each with where its lease stands."""
        return self._lent.get(group, {})

    def borrow(self, group: str, version: int, timeout_s: float) -> Deferred[None]:
        """Ask for a global address for the group, so that its next plan has one; whether that went well `lent` says."""
        answered: Deferred[Answer] = maybeDeferred(self._requester.send, self._borrowing(group, version, timeout_s))
        return answered.addCallbacks(self._borrowed, self._not_borrowed, callbackArgs=(group,), errbackArgs=(group,))

    def is_lost(self, uri: str) -> None:
        """A server says that the group of that URI is not there: make it again."""
        name = held_name(uri)
        self._told[name] = ()
        self._tasks.add(name)
        self._tasks.work()

    # Borrowing.

    def _borrowing(self, group: str, version: int, timeout_s: float = TIMEOUT_S) -> Outgoing:
        document = {"for": self._group_uri(group), "version": version}
        return Outgoing(Method.POST, self._server, dump_json(document), JSON, timeout_s=timeout_s)

    def _borrowed(self, answer: Answer, group: str) -> None:
        lease = _lease_in(answer)
        if lease is None:
            _log.warn("{server} gave no address for {group}: {code}", server=self._server, group=group, code=answer.code)
            return
        address, lifetime_s = lease
        self._lent.setdefault(group, {})[address] = _lease_uri(self._server, answer.location, address)
        self._renewed[address] = (self._reactor.seconds(), lifetime_s)

    def _not_borrowed(self, failure: Failure, group: str) -> None:
        if failure.check(Fault, CancelledError) is None:
            _log.failure("asking for an address", failure)
            return
        _log.warn("no address for {group}: {why}", group=group, why=failure.getErrorMessage())

    # Following the tree.

    def _on_record(self, change: Change) -> None:
        before = change.before if change.before is not None and change.before.type == HELD else None
        after = change.after if change.after is not None and change.after.type == HELD else None
        if after is not None:
            self._enter(held_of(after))
            self._tasks.add(after.path[-1])
            self._tasks.work()
        elif before is not None:
            self._leave(held_of(before))

    def _on_set(self, change: Change) -> None:
        """A set that uses, or used, what another node keeps: see what that node has to be told."""
        names: dict[str, None] = {}
        for resource in (change.before, change.after):
            if resource is not None and resource.type == FANOUT_SET:
                group, address = resource.attributes.get("group"), str(resource.attributes["fanoutAddress"])
                names.update({held_name(str(group)): None} if group else {})
                names.update({address: None} if is_multicast_address(address) else {})
        for name in names:
            if self._tree.find((*HELD_AT, name)) is not None:
                self._tasks.add(name)
        if names:
            self._tasks.work()

    def _enter(self, held: Held) -> None:
        if held.address:
            self._lent.setdefault(held.group, {})[held.address] = held.uri

    def _leave(self, held: Held) -> None:
        lent = self._lent.get(held.group, {})
        lent.pop(held.address, None)
        if not lent:
            self._lent.pop(held.group, None)
        self._told.pop(held.name, None)
        self._renewed.pop(held.address, None)

    # Telling.

    def _tell(self, name: str) -> Deferred[None] | None:
        resource = self._tree.find((*HELD_AT, name))
        if resource is None:
            return None
        held = held_of(resource)
        user = user_of(held, sets_of(self._tree, held.group))
        outgoing = self._outgoing(held, user)
        if outgoing is None:
            self._rest(held)
            return None
        answered: Deferred[Answer] = maybeDeferred(self._requester.send, outgoing)
        told = answered.addErrback(self._no_answer).addCallback(self._on_answer, held, user)
        return told.addErrback(self._failed, name)

    def _outgoing(self, held: Held, user: FanoutSet | None) -> Outgoing | None:
        """What the other node has to be told now; None: nothing."""
        if user is None:
            return end_request(held.uri)
        if held.address:
            began_s, lifetime_s = self._renewed.get(held.address, (0.0, 0.0))
            is_due = self._reactor.seconds() >= began_s + lifetime_s / 2
            return self._borrowing(held.group, 6 if ":" in held.address else 4) if is_due else None
        told = self._told.get(held.name)
        if told is None:  # In this run of the program it was not told: what the last one knew counts.
            told = user.members if user.joins.get(user.group) is Join.JOINED else ()
        if told != user.members:
            return make_request(user, self._group_uri(held.group))
        self._confirm(held, user)
        return None

    def _rest(self, held: Held) -> None:
        """Nothing is to be said now: a borrowed address is renewed when half of its time is over."""
        began_s, lifetime_s = self._renewed.get(held.address, (0.0, 0.0))
        if held.address and lifetime_s:
            due_s = max(1.0, began_s + lifetime_s / 2 - self._reactor.seconds())
            self._tasks.rest(held.name, due_s)

    @staticmethod
    def _no_answer(failure: Failure) -> None:
        if failure.check(Fault, CancelledError) is None:
            _log.failure("another node could not be told", failure)

    def _on_answer(self, answer: Answer | None, held: Held, user: FanoutSet | None) -> None:
        if held.name not in self._tasks:
            return
        is_settled = False
        if self._tasks.has_news(held.name):
            # Whether it took what it was told is no matter: it is told the newest.
            self._told[held.name] = ()
        elif user is None:
            is_settled = self._on_ended(answer, held)
        elif held.address:
            is_settled = self._on_renewed(answer, held)
        else:
            is_settled = self._on_made(answer, held, user)
        self._tasks.over(held.name, None if is_settled else pause_s(self._tasks.number(held.name)))

    def _failed(self, failure: Failure, name: str) -> None:
        """A mistake of this program, which does not keep the others from being told."""
        _log.failure("telling another node", failure)
        if name in self._tasks:
            self._tasks.over(name, pause_s(self._tasks.number(name)))

    def _on_ended(self, answer: Answer | None, held: Held) -> bool:
        if answer is None or not (answer.ok or answer.code in _GONE):
            return False
        done: Deferred[object] = self._committer.commit(Unit((Remove((*HELD_AT, held.name)),)))
        done.addErrback(lambda failure: _log.warn("{uri} is told again: {why}", uri=held.uri, why=failure.getErrorMessage()))
        return True

    def _on_made(self, answer: Answer | None, held: Held, user: FanoutSet) -> bool:
        if answer is None or not answer.ok:
            if answer is not None:
                _log.warn("{uri} could not be made: {code}", uri=held.uri, code=answer.code)
                self._book.note((held.group, user.name, user.address), [user.group], Join.FAILED)
            return False
        self._told[held.name] = user.members
        self._confirm(held, user)
        return True

    def _confirm(self, held: Held, user: FanoutSet) -> None:
        """The group is there; where its server is told to join an address, it counts when that has, which the advertiser sees to."""
        if user.joins.get(user.group) is not Join.JOINED and not is_multicast_address(user.address):
            self._book.note((held.group, user.name, user.address), [user.group], Join.JOINED)

    def _on_renewed(self, answer: Answer | None, held: Held) -> bool:
        lease = _lease_in(answer) if answer is not None else None
        now = self._reactor.seconds()
        if lease is not None and lease[0] == held.address:
            self._renewed[held.address] = (now, lease[1])
            self._rest(held)
            return True
        began_s, lifetime_s = self._renewed.setdefault(held.address, (now, 0.0))
        if lease is None and now < began_s + (lifetime_s or LEASE_S):
            return False
        # It is another's from now on, or may be: the group is planned without it.
        done: Deferred[object] = self._committer.commit(Unit((Remove((*HELD_AT, held.name)),)))
        done.addCallbacks(lambda _: self._on_lost(held.group), lambda failure: _log.warn("{why}", why=failure.getErrorMessage()))
        return True


def _lease_in(answer: Answer) -> tuple[str, float] | None:
    """The address and the seconds for which it is lent; None where the answer gives none."""
    if not answer.ok:
        return None
    try:
        document = (load_cbor if "cbor" in bare(answer.content_type) else load_json)(answer.payload)
    except Fault:
        return None
    address = document.get("address") if isinstance(document, Mapping) else None
    lifetime = document.get("lifetime") if isinstance(document, Mapping) else None
    if not isinstance(address, str) or not is_multicast_address(address):
        return None
    return address, float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else LEASE_S


def _lease_uri(server: str, location: str | None, address: str) -> str:
    """Where the lease stands: as the answer said, else below the pool by its address."""
    uri = parse_uri(server)
    if location is not None and "://" in location:
        return location
    path = location or path_uri((*uri.path, address))
    return f"{uri.scheme}://{uri.authority}{path}"
