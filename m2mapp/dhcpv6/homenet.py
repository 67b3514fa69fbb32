"""What the nodes of a home network tell of the bootstrap address (`hncp` of `[dhcpv6.uplink]`; RFC 7787, section 4.4). Pure.

A listener: it hears the hash of the network's state, which every node sends to all now and then, asks the sender for what is new, and takes
no part otherwise. It has no state of its own to tell, so it answers no requests, and nobody counts it to the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes
from m2mapp.dhcpv6.hncp import NodeState, Told, bootstrap_of, build_request, network_digest, parse_told
from m2mapp.dhcpv6.message import MalformedMessage

MOST_NODES: Final = 64
"""So many nodes of a network are known, and so many of those that send are told apart."""
PAUSE_S: Final = 1.0
"""The least time between two requests for the state of the network to one node."""
SILENCE_S: Final = 600.0
"""So long what was told counts when nobody tells it any more. A node is silent for half a minute at most (RFC 7788, section 3), but
devices that have the address keep it, and a network that is restarted should not make them all ask again."""
_ENDPOINT: Final = 1
_HALF: Final = 1 << 31
_SEQUENCES: Final = 1 << 32


@dataclass(slots=True)
class _Node:
    """What is known of a node, and when it was last heard of."""

    state: NodeState
    bootstrap: Bootstrap
    heard_s: float


class Homenet:
    """The nodes of the network on one link. `own` is the identifier under which this node asks, `codes` say which options count."""

    def __init__(self, own: bytes, codes: BootstrapCodes) -> None:
        self._own, self._codes = own, codes
        self._nodes: dict[bytes, _Node] = {}
        self._asked: dict[str, float] = {}
        self._complete: bytes | None = None

    def heard(self, data: bytes, source: str, now: float) -> bytes | None:
        """A datagram came: what to send to its source, or None. Raises `MalformedMessage` where it is to be ignored."""
        told = parse_told(data)
        self._learn(told, now)
        missing = [one.node for one in told.nodes if self._is_new(one)][:MOST_NODES]
        if told.network is not None:
            self._judge(told, now)
        if missing:
            return build_request(self._own, _ENDPOINT, missing)
        if told.network in (None, self._complete) or told.nodes or not self._may_ask(source, now):
            return None
        return build_request(self._own, _ENDPOINT)

    def over(self, now: float) -> None:
        """Forget nodes that nobody has told of for long."""
        kept = {name: node for name, node in self._nodes.items() if node.heard_s + SILENCE_S > now}
        if len(kept) < len(self._nodes):
            self._nodes, self._complete = kept, None

    def first(self) -> tuple[Bootstrap, str]:
        """What counts: of all that tell a service, the node with the lowest identifier; with its name, or nothing."""
        found = min(((name, node.bootstrap) for name, node in self._nodes.items() if node.bootstrap.uri), default=None)
        return (Bootstrap(), "") if found is None else (found[1], f"node {found[0].hex()}")

    def clear(self) -> None:
        """The link is another one, or gone."""
        self._nodes.clear()
        self._asked.clear()
        self._complete = None

    def _learn(self, told: Told, now: float) -> None:
        for state in told.nodes:
            known = self._nodes.get(state.node)
            if known is not None and known.state.digest == state.digest:
                known.state, known.heard_s = state, now
            elif state.data and self._is_new(state) and (known is not None or len(self._nodes) < MOST_NODES):
                self._nodes[state.node] = _Node(state, _bootstrap(state, self._codes), now)

    def _is_new(self, state: NodeState) -> bool:
        """Whether it tells more than what is known: sequence numbers are compared on a circle (RFC 7787, section 4.4)."""
        known = self._nodes.get(state.node)
        if known is None:
            return len(self._nodes) < MOST_NODES
        return known.state.digest != state.digest and 0 < (state.sequence - known.state.sequence) % _SEQUENCES < _HALF

    def _judge(self, told: Told, now: float) -> None:
        """Whether all that the network's hash stands for is known; who is not in a list of all has left."""
        if told.nodes and network_digest(told.nodes) == told.network:
            named = {one.node: one.digest for one in told.nodes}
            self._nodes = {name: node for name, node in self._nodes.items() if name in named}
            if {name: node.state.digest for name, node in self._nodes.items()} == named:
                self._complete = told.network
        elif told.network != self._complete:
            return
        for node in self._nodes.values():
            node.heard_s = now

    def _may_ask(self, source: str, now: float) -> bool:
        if now < self._asked.get(source, -PAUSE_S) + PAUSE_S:
            return False
        self._asked.pop(source, None)
        self._asked[source] = now
        if len(self._asked) > MOST_NODES:
            del self._asked[next(iter(self._asked))]
        return True


def _bootstrap(state: NodeState, codes: BootstrapCodes) -> Bootstrap:
    """What a node's data tell; nothing where their options are malformed, which is not asked for again."""
    try:
        return bootstrap_of(state.data, codes)
    except MalformedMessage:
        return Bootstrap()
