"""The service of the pages: takes samples for the plots while the node runs, and ends the event streams when it stops."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.admin.accounts import Accounts
from m2mapp.admin.index import all_pages
from m2mapp.admin.live import Live
from m2mapp.admin.notices import Notices
from m2mapp.admin.recorder import Recorder
from m2mapp.admin.samples import STEP_S, Samples
from m2mapp.admin.sessions import Sessions
from m2mapp.admin.signing import Signing
from m2mapp.admin.site import Doors, Site
from m2mapp.admin.visit import AdminNode
from m2mapp.http.tokens import Tokens
from m2mapp.model.errors import Fault
from m2mapp.tree.unit import Unit

_log = Logger()


class AdminService(Service):
    """The pages of one node; `site` is what the HTTP edge hands all below `/admin` to, `recorder` what answers its other requests."""

    name = "admin"

    def __init__(self, node: AdminNode, tokens: Tokens) -> None:
        self._reactor, self._committer = node.reactor, node.committer
        self._live = Live(node.tree, node.reactor)
        self._notices = Notices(node.reactor.seconds, lambda session: self._live.touch(f"notices/{session}"))
        self._samples = Samples(node.metrics, node.clock.now_ms)
        self._sessions = Sessions(node.tree, node.clock.now_ms(), node.reactor.seconds())
        accounts = Accounts(node, tokens, self._sessions)
        self._signing = Signing(node, tokens, accounts, self._sessions)
        doors = Doors(accounts, self._signing, self._sessions, self._notices, self._live)
        self.site = Site(node, all_pages(doors, self._samples, node.reactor.seconds()), doors)
        self.recorder = Recorder(node.handler, node.committer, node.reactor, node.metrics)
        self._call: IDelayedCall | None = None
        self._taken_s = 0.0

    def startService(self) -> None:
        """Write the one-time code, if it is the first start, and begin to take samples. Raises `OSError`."""
        super().startService()
        self._signing.prepare()
        self._taken_s = self._reactor.seconds()
        self._samples.take(0.0)
        self._call = self._reactor.callLater(STEP_S, self._take)

    def stopService(self) -> None:
        """Take no more samples, and end the streams."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._signing.stop()
        self._notices.stop()
        self._live.stop()
        self.recorder.stop()

    def _take(self) -> None:
        self._call = self._reactor.callLater(STEP_S, self._take)
        now = self._reactor.seconds()
        passed, self._taken_s = now - self._taken_s, now
        try:
            self._samples.take(passed)
        except Exception:  # noqa: BLE001 - periodic work: the next sample may be better
            _log.failure("a sample for the plots could not be taken")
        self._live.touch("samples")
        ended = self._sessions.ended(now)
        if ended:
            self._committer.commit(Unit(ended)).addErrback(_not_cleared)


def _not_cleared(failure: Failure) -> None:
    """They are over all the same, and cleared away with the next ones."""
    if failure.check(Fault) is None:
        _log.failure("sessions that are over could not be cleared away", failure)
