"""Which messages count at all (RFC 9915, section 16). Pure: the answer is why a message is discarded, or None.

Responsible for the identifiers and options that each message type must and must not have. Not responsible for what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType
from m2mapp.dhcpv6.options import Authentication, ClientId, IaNa, IaPd, ReconfigureMessage, ServerId, first


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a server asks of a message: `client`, a Client Identifier; `server`, its own Server Identifier, none, or (None) either."""

    client: bool
    server: bool | None


_TO_SERVER: Final[Mapping[MessageType, _Rule]] = {
    MessageType.SOLICIT: _Rule(client=True, server=False),
    MessageType.REQUEST: _Rule(client=True, server=True),
    MessageType.CONFIRM: _Rule(client=True, server=False),
    MessageType.RENEW: _Rule(client=True, server=True),
    MessageType.REBIND: _Rule(client=True, server=False),
    MessageType.DECLINE: _Rule(client=True, server=True),
    MessageType.RELEASE: _Rule(client=True, server=True),
    MessageType.INFORMATION_REQUEST: _Rule(client=False, server=None),
}


def why_server_discards(message: Message, own_duid: bytes) -> str | None:
    """Why a server discards a message, or None (sections 16.2 to 16.12)."""
    rule = _TO_SERVER.get(message.type)
    if rule is None:
        return f"{message.type.name} is not for servers"
    if rule.client and first(message.options, ClientId) is None:
        return f"{message.type.name} without Client Identifier"
    server = first(message.options, ServerId)
    if server is None:
        fault = "without Server Identifier" if rule.server else None
    elif rule.server is False:
        fault = "with Server Identifier"
    else:
        fault = None if server.duid == own_duid else "to another server"
    if message.type is MessageType.INFORMATION_REQUEST and (first(message.options, IaNa) or first(message.options, IaPd)):
        fault = "with an IA"
    return None if fault is None else f"{message.type.name} {fault}"


def why_client_discards(message: Message, own_duid: bytes, transaction_id: int | None) -> str | None:
    """Why a client discards an Advertise or Reply, or None (sections 16.3 and 16.10). `transaction_id`: that of the exchange under way."""
    if message.type not in (MessageType.ADVERTISE, MessageType.REPLY):
        return f"{message.type.name} is not for clients"
    client, server = first(message.options, ClientId), first(message.options, ServerId)
    if message.transaction_id != transaction_id:
        return f"{message.type.name} of another transaction"
    if server is None:
        return f"{message.type.name} without Server Identifier"
    if client is None or client.duid != own_duid:
        return f"{message.type.name} to another client"
    return None


def why_client_discards_reconfigure(message: Message, own_duid: bytes) -> str | None:
    """Why a client discards a Reconfigure before it looks at the key, or None (section 16.11)."""
    client = first(message.options, ClientId)
    if first(message.options, ServerId) is None:
        return "RECONFIGURE without Server Identifier"
    if client is None or client.duid != own_duid:
        return "RECONFIGURE to another client"
    if first(message.options, ReconfigureMessage) is None:
        return "RECONFIGURE without Reconfigure Message"
    if first(message.options, Authentication) is None:
        return "RECONFIGURE without Authentication"
    return None
