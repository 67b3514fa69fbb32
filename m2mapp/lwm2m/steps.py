"""The steps of a device from its address to its groups, by name, and what a person can do about one that does not come. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from m2mapp.lwm2m.record import BOOTSTRAPPED, REQUESTED

GIVEN, REPORTED, REGISTERED, IN_GROUPS = "address given", "reported", "registered", "in groups"
STEPS: Final = (GIVEN, REPORTED, REQUESTED, BOOTSTRAPPED, REGISTERED, IN_GROUPS)
"""All steps, in their order."""
SEEN_BY_GATEWAY: Final = (GIVEN, REGISTERED, IN_GROUPS)
"""The steps that a gateway reports."""
ADVICE: Final[Mapping[str, str]] = {
    GIVEN: "No gateway has reported an address of this device: look whether its gateway is among /gateways, and whether the device asks "
    "by DHCPv6.",
    REPORTED: "The device came before its gateway's report: look at /gateways for when that gateway was last heard, and at its [report].",
    REQUESTED: "The device has the address of the bootstrap service and has not asked there: look whether it is on, whether it reaches "
    "this server, and whether it was told the right URI.",
    BOOTSTRAPPED: "The bootstrap was not finished: `why` says what failed; the device has to ask again.",
    REGISTERED: "The device was told its servers and is registered at none that is known here: look whether it reaches them, and whether "
    "the plan's URIs are right.",
    IN_GROUPS: "The device has not confirmed the groups that its gateway told it of: look at their fan-out sets at the gateway.",
}
"""What to look at where a step is missing."""
