"""Keeps a LwM2M client registered at one server: sends what `registering` says, when it says so."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.lwm2m.registering import Account, Registration, State
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer
from m2mapp.net.alarm import Alarm

_log = Logger()
_UNDER_WAY = (State.REGISTERING, State.UPDATING)


class Registering(Service):
    """Registered at the account's server while it runs.

    `links` gives the client's objects and instances in link format, and is asked each time. `on_agreed` is called with each answer by
    which the server agreed to a registration or an update; the answer's `source` is the server's address. `requester` sends from the
    client's own endpoint.
    """

    name = "lwm2m registering"

    def __init__(
        self,
        reactor: IReactorTime,
        requester: IRequester,
        account: Account,
        links: Callable[[], str],
        random: Random,
        on_agreed: Callable[[Answer], object] = lambda _: None,
    ) -> None:
        self._reactor, self._requester, self._links, self._on_agreed = reactor, requester, links, on_agreed
        self.registration = Registration(account, random.random)
        self._alarm = Alarm(reactor, self._ask)
        self._under_way: Deferred[None] | None = None

    @property
    def registered(self) -> bool:
        """Whether the server has confirmed the registration, and nothing failed since."""
        return self.registration.location is not None

    def startService(self) -> None:
        """Register within a second."""
        super().startService()
        self.registration.start(self._reactor.seconds())
        self._schedule()

    def stopService(self) -> Deferred[None]:
        """Deregister, as far as the server answers in time. The Deferred fires after that and never fails."""
        super().stopService()
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
        farewell = self.registration.leave()
        self._schedule()
        if farewell is None:
            return succeed(None)
        removed: Deferred[Answer] = maybeDeferred(self._requester.send, farewell)
        return removed.addCallbacks(lambda _: None, self._not_removed)

    def changed(self) -> None:
        """The client's objects or instances are others now: the server is told of all that come within a second by one update."""
        self.registration.changed(self._reactor.seconds())
        self._schedule()

    def renew(self) -> None:
        """Update in the reactor's next turn: the server asked for it."""
        self.registration.renew(self._reactor.seconds())
        self._schedule()

    def _schedule(self) -> None:
        """One delayed call at most, for when the machine wants to be asked."""
        self._alarm.stop()
        wake_at = self.registration.wake_at
        if wake_at is not None:
            self._alarm.set(wake_at - self._reactor.seconds())

    def _ask(self) -> None:
        sent: Deferred[Answer] = maybeDeferred(self._requester.send, self.registration.ask(self._links()))
        done = sent.addCallback(self._answered).addErrback(self._failed)
        if not done.called:
            self._under_way = done

    def _answered(self, answer: Answer) -> None:
        self._under_way = None
        registration = self.registration
        was_registered = registration.state is State.UPDATING
        if registration.answered(answer, self._reactor.seconds()):
            if not was_registered:
                _log.info("{who} is registered at {server}", who=registration.account.endpoint, server=registration.account.server.text())
            self._on_agreed(answer)
        else:
            self._tell(f"{answer.code} {answer.payload[:200].decode(errors='replace')}")
        self._schedule()

    def _failed(self, failure: Failure) -> None:
        self._under_way = None
        if not self.running:
            return
        if failure.check(Fault) is None:
            _log.failure("the registration of {who} failed", failure, who=self.registration.account.endpoint)
        else:
            self._tell(failure.getErrorMessage())
        if self.registration.state in _UNDER_WAY:
            self.registration.failed(self._reactor.seconds())
        self._schedule()

    def _tell(self, why: str) -> None:
        account = self.registration.account
        text = "{who} is not registered at {server}, and asks again: {why}"
        _log.warn(text, who=account.endpoint, server=account.server.text(), why=why)

    def _not_removed(self, failure: Failure) -> None:
        text = "{who} was not deregistered at the server; that ends with its lifetime: {why}"
        _log.info(text, who=self.registration.account.endpoint, why=failure.getErrorMessage())
