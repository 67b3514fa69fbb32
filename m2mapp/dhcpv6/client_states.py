"""The states of a DHCPv6 client and what leads from one to another (RFC 9915, section 18.2): the one table."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    """Where the client is."""

    OFF = "off"
    SOLICITING = "soliciting"
    REQUESTING = "requesting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    VERIFYING = "verifying"
    RELEASING = "releasing"
    DECLINING = "declining"


class Event(Enum):
    """What can happen to it."""

    BEGIN = "it begins without a lease"
    BEGIN_AGAIN = "it begins with a lease that it kept, or the link was away"
    CHOSEN = "an offer is chosen"
    GRANTED = "a Reply grants something"
    REFUSED = "a Reply refuses all, or nobody answers a Request"
    FORGOTTEN = "the server does not know the binding"
    T1 = "T1 is there"
    T2 = "T2 is there"
    UNVERIFIED = "nobody answers in the time for verifying"
    CONFIRMED = "its address is of the link that it is on, or nobody says otherwise"
    MOVED = "its address is not of the link that it is on"
    EXPIRED = "the last valid lifetime is over"
    RELEASE = "it shall give back what it has"
    RELEASED = "the Release is answered, or was sent often enough"
    DECLINE = "another host has the address"
    DECLINED = "the Decline is answered, or was sent often enough"
    STOP = "it shall stop"


_P, _E = Phase, Event
CLIENT: Final[dict[tuple[Phase, Event], Phase]] = {
    (_P.OFF, _E.BEGIN): _P.SOLICITING,
    (_P.OFF, _E.BEGIN_AGAIN): _P.VERIFYING,
    (_P.SOLICITING, _E.BEGIN_AGAIN): _P.SOLICITING,
    (_P.SOLICITING, _E.EXPIRED): _P.SOLICITING,
    (_P.SOLICITING, _E.CHOSEN): _P.REQUESTING,
    (_P.SOLICITING, _E.GRANTED): _P.BOUND,
    (_P.REQUESTING, _E.BEGIN_AGAIN): _P.SOLICITING,
    (_P.REQUESTING, _E.GRANTED): _P.BOUND,
    (_P.REQUESTING, _E.REFUSED): _P.SOLICITING,
    (_P.REQUESTING, _E.EXPIRED): _P.REQUESTING,
    (_P.BOUND, _E.T1): _P.RENEWING,
    (_P.BOUND, _E.T2): _P.REBINDING,
    (_P.BOUND, _E.EXPIRED): _P.SOLICITING,
    (_P.BOUND, _E.BEGIN_AGAIN): _P.VERIFYING,
    (_P.RENEWING, _E.GRANTED): _P.BOUND,
    (_P.RENEWING, _E.FORGOTTEN): _P.REQUESTING,
    (_P.RENEWING, _E.T2): _P.REBINDING,
    (_P.RENEWING, _E.EXPIRED): _P.SOLICITING,
    (_P.RENEWING, _E.BEGIN_AGAIN): _P.VERIFYING,
    (_P.REBINDING, _E.GRANTED): _P.BOUND,
    (_P.REBINDING, _E.FORGOTTEN): _P.REQUESTING,
    (_P.REBINDING, _E.EXPIRED): _P.SOLICITING,
    (_P.REBINDING, _E.BEGIN_AGAIN): _P.VERIFYING,
    (_P.VERIFYING, _E.GRANTED): _P.BOUND,
    (_P.VERIFYING, _E.FORGOTTEN): _P.REQUESTING,
    (_P.VERIFYING, _E.UNVERIFIED): _P.REBINDING,
    (_P.VERIFYING, _E.CONFIRMED): _P.BOUND,
    (_P.VERIFYING, _E.MOVED): _P.SOLICITING,
    (_P.VERIFYING, _E.EXPIRED): _P.SOLICITING,
    (_P.VERIFYING, _E.BEGIN_AGAIN): _P.VERIFYING,
    (_P.RELEASING, _E.RELEASED): _P.OFF,
    (_P.DECLINING, _E.DECLINED): _P.SOLICITING,
    (_P.DECLINING, _E.BEGIN_AGAIN): _P.SOLICITING,
    (_P.DECLINING, _E.RELEASE): _P.OFF,
    **{(phase, _E.RELEASE): _P.RELEASING for phase in (_P.BOUND, _P.RENEWING, _P.REBINDING, _P.VERIFYING)},
    **{(phase, _E.DECLINE): _P.DECLINING for phase in (_P.BOUND, _P.RENEWING, _P.REBINDING, _P.VERIFYING)},
    **{(phase, _E.STOP): _P.OFF for phase in _P},
}
"""The transitions; an event that has none raises `KeyError` and changes nothing."""
