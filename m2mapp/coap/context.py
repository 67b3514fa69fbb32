"""What the parts of one CoAP service share. Responsible for holding it, nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from m2mapp.coap.counters import Counters
from m2mapp.coap.deadlines import Deadlines
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.coap.tap import Tap


@dataclass(frozen=True, slots=True)
class Context:
    """The clock, its deadlines, the parameters, the limits, the counters, the tap, the names of interfaces, and where chance comes from.

    `names` has the configured interfaces' names by index, so that a zone can be told as people know it; the service fills it.
    `rng` is `random.SystemRandom()` on a network, because tokens and message IDs must not be guessed (RFC 7252, section 11.4), and a
    seeded one in a simulation.
    """

    clock: IReactorTime
    deadlines: Deadlines
    counters: Counters
    rng: random.Random
    tap: Tap
    names: dict[int, str] = field(default_factory=dict)
    parameters: TransmissionParameters = field(default_factory=TransmissionParameters)
    limits: Limits = field(default_factory=Limits)
