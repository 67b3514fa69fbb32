"""Observers and a server as processes of their own: this program's client, aiocoap's client, aiocoap's server.

    python -m tests.system.observe_child ours|aiocoap URI     observe; each state is a JSON line; a line on standard input cancels
    python -m tests.system.observe_child serve ADDRESS        an aiocoap server whose /count counts every half second; DELETE ends it

Responsible for saying what is told, as it comes. Not responsible for what is expected.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import aiocoap
import aiocoap.resource
from twisted.internet import stdio
from twisted.internet.protocol import Protocol

from m2mapp.coap.service import CoapService, make_context
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.net.udp import SystemDatagrams
from tests.system.own_calls import Nobody

if TYPE_CHECKING:
    from m2mapp.coap.dtls.observing import SessionObservation
    from m2mapp.coap.observation import Observation

_COUNT_S = 0.5


def say(**what: object) -> None:
    """One JSON line."""
    print(json.dumps(what), flush=True)


class _Line(Protocol):
    """Cancels the observation at a line on standard input."""

    def __init__(self, observation: Observation | SessionObservation) -> None:
        self._observation = observation

    def dataReceived(self, data: bytes) -> None:
        self._observation.cancel()
        say(cancelled=True)


def ours(uri: str) -> None:
    """Observe with this program's client until it is ended."""
    from twisted.internet import reactor  # installed here: aiocoap's programs have none

    metrics = Metrics()
    nobody = Nobody()
    service = CoapService((("::", 0),), (), SystemDatagrams(reactor, metrics), nobody, nobody, make_context(reactor, metrics))
    service.startService()

    def on_answer(answer: Answer) -> None:
        say(code=answer.code, payload=answer.payload.decode(), observed=True)

    def on_end(why: Fault | Answer) -> None:
        say(end=why.code if isinstance(why, Answer) else why.detail)

    observation = service.client.observe(Outgoing(Method.GET, uri), None, on_answer, on_end)
    stdio.StandardIO(_Line(observation))
    reactor.run()


async def aiocoap_observe(uri: str) -> None:
    """Observe with aiocoap's client until it is ended."""
    client = await aiocoap.Context.create_client_context()
    request = client.request(aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0))
    observation = request.observation
    assert observation is not None
    first = await request.response
    say(code=first.code.dotted, payload=first.payload.decode(), observed=first.opt.observe is not None)
    line = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def follow() -> None:
        try:
            async for notification in observation:
                say(code=notification.code.dotted, payload=notification.payload.decode(), observed=notification.opt.observe is not None)
        except aiocoap.error.Error as error:
            say(end=repr(error))

    following = asyncio.ensure_future(follow())
    await line
    observation.cancel()
    following.cancel()
    say(cancelled=True)
    await asyncio.Event().wait()


class _Count(aiocoap.resource.ObservableResource):  # type: ignore[misc]
    """Counts while somebody observes it. DELETE tells the observers 4.04."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.gone = False
        asyncio.get_running_loop().call_later(_COUNT_S, self._next)

    def _next(self) -> None:
        self.count += 1
        self.updated_state()
        asyncio.get_running_loop().call_later(_COUNT_S, self._next)

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        if self.gone:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        return aiocoap.Message(payload=b"%d" % self.count + b"." * (3000 if self.count % 4 == 0 else 0))

    async def render_delete(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.gone = True
        self.updated_state(aiocoap.Message(code=aiocoap.NOT_FOUND))
        return aiocoap.Message(code=aiocoap.DELETED)


async def aiocoap_serve(address: str) -> None:
    """Serve `/count` with aiocoap."""
    site = aiocoap.resource.Site()
    site.add_resource(["count"], _Count())
    await aiocoap.Context.create_server_context(site, bind=(address, 5683))
    say(serving=address)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        ours(sys.argv[2])
    else:
        asyncio.run({"aiocoap": aiocoap_observe, "serve": aiocoap_serve}[sys.argv[1]](sys.argv[2]))
