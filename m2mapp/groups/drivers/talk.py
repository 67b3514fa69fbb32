"""Holds a dialogue: sends what a generator asks for and hands it the answers, until it returns."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Outgoing

T = TypeVar("T")

_log = Logger(namespace="m2mapp.groups.talk")


def talk(requester: IRequester, dialogue: Generator[Outgoing, Answer | None, T]) -> Deferred[T]:
    """What the dialogue returns. A request that fails is one without an answer. It can be cancelled."""
    return Deferred.fromCoroutine(_hold(requester, dialogue))


async def _hold(requester: IRequester, dialogue: Generator[Outgoing, Answer | None, T]) -> T:
    try:
        outgoing = next(dialogue)
        while True:
            outgoing = dialogue.send(await _answer(requester, outgoing))
    except StopIteration as end:
        returned: T = end.value
        return returned


async def _answer(requester: IRequester, outgoing: Outgoing) -> Answer | None:
    sent: Deferred[Answer] = maybeDeferred(requester.send, outgoing)
    try:
        return await sent
    except Fault as fault:
        _log.debug("{method} {uri}: {fault}", method=outgoing.method.value, uri=outgoing.uri, fault=fault.detail)
        return None
