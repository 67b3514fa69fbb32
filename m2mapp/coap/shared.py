"""One observation upstream for all here who observe the same resource (issue 3: a thousand watchers cost a device one).

Responsible for who here is told of which observation. Not responsible for the observation itself (`observation`). Nothing is kept over
a restart: whoever owns the wish to observe keeps that, and asks again when the service has started.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from m2mapp.coap.context import Context
from m2mapp.coap.dtls.observing import SessionObservation
from m2mapp.coap.observation import Observation, OnAnswer, OnEnd
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Outgoing, Shown
from m2mapp.net.interfaces import Sockaddr

_log = Logger()

Observe = Callable[[Outgoing, Sockaddr | None, OnAnswer, OnEnd], Observation | SessionObservation]
"""`CoapClient.observe`."""

_Key = tuple[str, str | None, tuple[bytes | None, Shown | None], Sockaddr | None]


class _Upstream:
    """One observation, and who is told of it."""

    def __init__(self) -> None:
        self.observation: Observation | SessionObservation | None = None
        self.subscriptions: dict[Subscription, None] = {}
        self.latest: Answer | None = None


class Subscription:
    """One watcher's part in an observation. `cancel` it when it is not wanted any more."""

    def __init__(self, shared: SharedObservations, key: _Key, on_answer: OnAnswer, on_end: OnEnd) -> None:
        self._shared, self.key, self.on_answer, self.on_end = shared, key, on_answer, on_end

    def cancel(self) -> None:
        """Be told no more. The last to go ends the observation. Cancelling again does nothing."""
        self._shared.leave(self)


class SharedObservations:
    """The observations of one CoAP client, by URI, wanted media type and address."""

    def __init__(self, observe: Observe, context: Context) -> None:
        self._observe, self._context = observe, context
        self._upstreams: dict[_Key, _Upstream] = {}

    def __len__(self) -> int:
        """How many observations there are upstream."""
        return len(self._upstreams)

    def observe(self, outgoing: Outgoing, remote: Sockaddr | None, on_answer: OnAnswer, on_end: OnEnd) -> Subscription:
        """Be told of each newer state, and once of the end; the state that is known already comes in a moment.

        Raises what `CoapClient.observe` does. The first to ask decides about timeouts.
        """
        key = (outgoing.uri, outgoing.accept, (outgoing.certificate, outgoing.shown), remote)
        subscription = Subscription(self, key, on_answer, on_end)
        upstream = self._upstreams.get(key)
        if upstream is None:
            upstream = self._upstreams[key] = _Upstream()
            upstream.subscriptions[subscription] = None
            try:
                upstream.observation = self._observe(outgoing, remote, partial(self._told, upstream), partial(self._ended, key, upstream))
            except Fault:
                del self._upstreams[key]
                raise
            return subscription
        upstream.subscriptions[subscription] = None
        if upstream.latest is not None:
            self._context.deadlines.after(0.0, partial(self._tell_latest, upstream, subscription, upstream.latest))
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """See `Subscription.cancel`."""
        upstream = self._upstreams.get(subscription.key)
        if upstream is None or subscription not in upstream.subscriptions:
            return
        del upstream.subscriptions[subscription]
        if not upstream.subscriptions:
            del self._upstreams[subscription.key]
            if upstream.observation is not None:
                upstream.observation.cancel()

    def _told(self, upstream: _Upstream, answer: Answer) -> None:
        upstream.latest = answer
        for subscription in tuple(upstream.subscriptions):
            if subscription in upstream.subscriptions:
                _call(partial(subscription.on_answer, answer))

    def _tell_latest(self, upstream: _Upstream, subscription: Subscription, answer: Answer) -> None:
        """Tell a later one what the others know; what has come since then it has been told."""
        if subscription in upstream.subscriptions and upstream.latest is answer:
            _call(partial(subscription.on_answer, answer))

    def _ended(self, key: _Key, upstream: _Upstream, why: Fault | Answer) -> None:
        if self._upstreams.get(key) is upstream:
            del self._upstreams[key]
        subscriptions, upstream.subscriptions = upstream.subscriptions, {}
        for subscription in subscriptions:
            _call(partial(subscription.on_end, why))


def _call(function: Callable[[], object]) -> None:
    """One watcher must not keep the others from their news."""
    try:
        function()
    except Exception:  # noqa: BLE001 - see above
        _log.failure("who observes did not handle what it was told")
