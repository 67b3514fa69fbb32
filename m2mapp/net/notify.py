"""Tells the service manager how far the process is (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.logger import Logger

_log = Logger(namespace="m2mapp.notify")


def notify(state: str, environment: Mapping[str, str]) -> bool:
    """Send a state such as `READY=1`. False where nobody asked for it, or it could not be sent (which is logged)."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        _log.warn("the service manager could not be told {state}: {error}", state=state, error=error)
        return False
    return True
