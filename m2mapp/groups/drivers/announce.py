"""Sends group advertisements to many devices at once, and waits a moment for those who confirm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.formats.documents import CBOR
from m2mapp.formats.uris import address_key
from m2mapp.groups.announcement import MC_GROUPS, Addressee, Channel, channel, leisure_s, listeners, payloads
from m2mapp.groups.dialogue import Place
from m2mapp.groups.group import GROUPS
from m2mapp.groups.settings import UNICAST, GroupSettings
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IGathering, IGroupSender
from m2mapp.model.messages import Answer, GroupOutgoing, Method
from m2mapp.tree.tree import Tree

FEWEST = 2
"""Fewer devices than that are told one by one."""
GRACE_S = 1.0
"""So long after the leisure time a confirmation may still be under way: a device answers when the write is on its disk."""

_log = Logger(namespace="m2mapp.groups.announce")

Heard = Callable[[Addressee, bool], None]
"""Told of each device that an advertisement named, once: whether it has confirmed."""


class Announcer:
    """The advertisements to many that are under way. `settings` say which way is usual; a group's description may say another."""

    def __init__(self, reactor: IReactorTime, sender: IGroupSender, tree: Tree, settings: GroupSettings) -> None:
        self._reactor, self._sender, self._tree, self._settings = reactor, sender, tree, settings
        self._under_way: dict[IGathering, IDelayedCall] = {}

    def stop(self) -> None:
        """Wait for nobody any more; nobody is told of the rest."""
        for gathering, call in self._under_way.items():
            call.cancel()
            gathering.close()
        self._under_way.clear()

    def mode(self, group: str) -> str:
        """How the devices of a group are told; of one that is gone, as usual."""
        resource = self._tree.find((*GROUPS, group))
        described = resource.attributes.get("advertise") if resource is not None else None
        return described if isinstance(described, str) else self._settings.advertise

    def announce(self, group: str, place: Place, addressees: Iterable[Addressee], heard: Heard) -> list[Addressee]:
        """Tell these devices, who all join or all leave, as far as they can be told at once; the others are given back."""
        mode = self.mode(group)
        whole = list(addressees)
        if mode == UNICAST or len(whole) < FEWEST:
            return whole
        joined = listeners(self._tree, self._settings.advertise_group)
        by_channel: dict[Channel, list[Addressee]] = {}
        alone: list[Addressee] = []
        for one in whole:
            heard_at = channel(mode, joined, one.device)
            (alone if heard_at is None else by_channel.setdefault(heard_at, [])).append(one)
        for to, named in by_channel.items():
            waits_s = leisure_s(named) + GRACE_S
            for payload, part in payloads(place, named):
                if len(part) < FEWEST or not self._send(to, payload, waits_s, part, heard):
                    alone += part
        return alone

    def _send(self, to: Channel, payload: bytes, waits_s: float, named: list[Addressee], heard: Heard) -> bool:
        outgoing = GroupOutgoing(Method.POST, to.address, MC_GROUPS, to.port, payload=payload, content_type=CBOR, lifetime_s=waits_s)
        waiting = {(address_key(address), one.device.port): one for one in named for address in one.device.addresses}
        try:
            gathering = self._sender.send_to_group(outgoing, partial(self._answered, waiting, heard))
        except Fault as fault:
            _log.warn("an advertisement to {address} could not be sent: {fault}", address=to.address, fault=fault.detail)
            return False
        self._under_way[gathering] = self._reactor.callLater(waits_s, self._over, gathering, waiting, heard)
        return True

    @staticmethod
    def _answered(waiting: dict[tuple[str, int], Addressee], heard: Heard, answer: Answer) -> None:
        source = address_key(answer.source)
        one = waiting.get((source, answer.port)) or waiting.get((source.partition("%")[0], answer.port))
        if one is not None and answer.ok:
            _forget(waiting, one)
            heard(one, True)

    def _over(self, gathering: IGathering, waiting: Mapping[tuple[str, int], Addressee], heard: Heard) -> None:
        """Those who have not confirmed are told one by one."""
        del self._under_way[gathering]
        gathering.close()
        for one in {one.device.name: one for one in waiting.values()}.values():
            heard(one, False)


def _forget(waiting: dict[tuple[str, int], Addressee], one: Addressee) -> None:
    for address in one.device.addresses:
        waiting.pop((address_key(address), one.device.port), None)
