"""The few seams of the program: each has a real side and one that tests put in its place, and crosses a layer.

Values that cross them are in `messages`; units and changes are in `tree.unit`. What is a Deferred stands here as `Any`, since nothing in
`model` knows Twisted: those who call name the type that they expect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from m2mapp.model.messages import Answer, GroupOutgoing, Outgoing, Request


class IHandle(Interface):
    """Answers requests: the dispatcher to the edges, a capability to the dispatcher."""

    def handle(request: Request) -> Any:
        """Answer a `Request`: a `Response`, or a Deferred of one. Raises, or fails with, a `Fault`."""


class ICommit(Interface):
    """Makes changes durable."""

    def commit(unit: Any) -> Any:
        """Check a `tree.unit.Unit`, flush it, apply it. A Deferred of the tuple of `Change`s, in the order of the unit.

        Fails with the `Fault` that says why nothing of the unit was done.
        """


class IJournals(Interface):
    """Reads journals."""

    def read_journal(name: str, after: int = 0, limit: int = 100, newest: bool = False) -> Any:
        """A Deferred of a list of `tree.unit.Entry`, by number. With `newest` the last `limit` of them, else the first after `after`."""


class IFollow(Interface):
    """Follows the changes of a tree without a gap: what it notes of a unit is in the unit's own commit (`tree.tree`)."""

    def staged(unit: Any, changes: Any) -> Any:
        """A `tree.unit.Unit` is being staged, with these `Change`s: the `Append`s to be committed with it, none as a rule.

        Raises the `Fault` for which the unit is not to be done; it is asked last, after all other checks.
        """

    def committed(last_number: int) -> None:
        """All that was staged up to this number is durable; watchers have been told."""

    def dropped() -> None:
        """What was staged and is not committed will never be."""


class IClock(Interface):
    """The wall clock, for times that people see. Delays and lifetimes use Twisted's `IReactorTime`, which never steps here."""

    def now_ms() -> int:
        """Milliseconds since 1970 UTC, as an int. Steps when the box learns the time."""


class IRequester(Interface):
    """Sends one request to a URI, of whatever scheme."""

    def send(outgoing: Outgoing) -> Any:
        """A Deferred of the `Answer` to an `Outgoing`; fails with `PeerFailed` or `DeadlinePassed`."""


class IAskBack(Interface):
    """Asks those back who have asked this node, on the pair of ports that their request came by. `peer` is `Request.peer`."""

    def ask_back(peer: object, outgoing: Outgoing) -> Any:
        """Send an `Outgoing` whose URI is a path, `/0/1`: a Deferred of the `Answer`.

        Fails with `PeerFailed`, also where the peer's session is over, or `DeadlinePassed`.
        """

    def names(peer: object) -> tuple[str, ...]:
        """The names in the certificate that the peer has shown and this node verified; empty where it has shown none."""


class IGroupSender(Interface):
    """Sends one request to a multicast address and hands on every answer."""

    def send_to_group(outgoing: GroupOutgoing, on_answer: Callable[[Answer], None]) -> Any:
        """Send a `GroupOutgoing`; each `Answer` goes to `on_answer`, repeats too.

        Returns an `IGathering`. Raises `PeerFailed` where no interface could send.
        """


class IGathering(Interface):
    """The answers to one group request, while they are awaited."""

    sent = Attribute("How many datagrams left the node, an int.")

    def close() -> None:
        """Hand on no further answers; late ones are counted. Calling it again does nothing."""


class IMembership(Interface):
    """Joins and leaves multicast groups on the node's interfaces."""

    def join(group: str) -> None:
        """Join a multicast address (text) on each configured interface, once however often it is asked. Raises `OSError`."""

    def leave(group: str) -> None:
        """Leave it. An address that was not joined is no error."""


class IStream(Interface):
    """A payload that is made while it is sent. Its reader takes it at its own pace; nothing is made for one that does not read."""

    def open(wake: Callable[[], None]) -> None:
        """Begin; `wake` is called when there is more to read, which may be at once. Called once, before `read`."""

    def read() -> bytes | None:
        """What comes next; empty where nothing is there yet; None at the end."""

    def close() -> None:
        """The reader reads no more, be it at the end or before it. Calling it again does nothing."""
