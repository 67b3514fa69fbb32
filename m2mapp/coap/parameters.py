"""The parameters of the protocol and the limits of this endpoint, as frozen values.

Responsible for the numbers and the times that follow from them (RFC 7252, section 4.8). Not responsible for reading them from a
configuration file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from m2mapp.coap import things


@dataclass(frozen=True, slots=True)
class TransmissionParameters:
    """RFC 7252, section 4.8, times in seconds. Raises `ValueError` where the RFC forbids the value."""

    ack_timeout_s: float = things.ACK_TIMEOUT_S
    ack_random_factor: float = things.ACK_RANDOM_FACTOR
    max_retransmit: int = things.MAX_RETRANSMIT
    nstart: int = things.NSTART
    default_leisure_s: float = 5.0
    max_latency_s: float = things.MAX_LATENCY_S
    probing_rate: float = 1.0

    def __post_init__(self) -> None:
        """Section 4.8.1: ACK_TIMEOUT above 0, ACK_RANDOM_FACTOR not below 1; PROBING_RATE is in bytes a second."""
        counts = self.max_retransmit < 0 or self.nstart < 1
        if self.ack_timeout_s <= 0 or self.ack_random_factor < 1 or counts or self.probing_rate <= 0:
            raise ValueError(f"no transmission parameters: {self}")

    @property
    def max_transmit_span_s(self) -> float:
        """From the first transmission of a confirmable message to its last."""
        return float(self.ack_timeout_s * (2**self.max_retransmit - 1) * self.ack_random_factor)

    @property
    def max_transmit_wait_s(self) -> float:
        """From the first transmission of a confirmable message to giving up."""
        return float(self.ack_timeout_s * (2 ** (self.max_retransmit + 1) - 1) * self.ack_random_factor)

    @property
    def exchange_lifetime_s(self) -> float:
        """How long a message ID of a confirmable message is taken: 247 s by default."""
        return self.max_transmit_span_s + 2 * self.max_latency_s + self.ack_timeout_s

    @property
    def non_lifetime_s(self) -> float:
        """How long a message ID of a non-confirmable message is taken: 145 s by default."""
        return self.max_transmit_span_s + self.max_latency_s


class Unproven(Enum):
    """What a source gets whose address may be forged, where the answer is much larger than the request (RFC 9175, section 2.4)."""

    ECHO = "echo"
    """It is asked to show that it receives there: 4.01 with Echo."""
    BLOCKS = "blocks"
    """It gets blocks so small that nothing is gained by forging: for clients that do not know Echo."""
    TRUST = "trust"
    """It gets what it asks for: for a network that lets no forged source in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one source, and all together, may take up here. Bytes count the answers kept, with what keeping them costs.

    A source that asks more than `source_requests_per_s` or `source_bytes_per_s`, in the mean over `source_burst_s`, is told so or not
    answered; a /64 of IPv6 may ask as much as 16 sources. An Echo value holds for `echo_s` to twice that; an address proven by one,
    or by an answer to a request of ours, counts as proven for `proven_s`. A peer that answers nothing is sent `probing_bytes` before
    PROBING_RATE holds.

    A request is acknowledged without its answer after `ack_delay_s`; one with a deadline, which is part of a group operation, after
    `ack_delay_in_group_s`: until then its sender asks this node nothing else (NSTART), and by that time it learns how soon to repeat.

    `payload_bytes` are those of one payload, of a request here or an answer to one of ours; `answers_bytes` those of all answers that are
    fetched in blocks at a time.

    Of observers (RFC 7641): how many; the bytes of a registration's options, each counted with 64 more; `observe_unconfirmed`: so many
    notifications in a row may be non-confirmable; `observe_confirm_s`: none when nobody confirmed for so long; `observe_probe_s`: one
    without a change then; `observe_settle_s`: so long without a change ends a burst; `observe_pace_s`: the least time between two.

    Of DTLS: `handshakes_per_s`: so many handshakes of one host are begun in a second, on average, and twice as many at once, since each
    takes a millisecond of the reactor's time; `handshake_s`: so long one may take; `session_idle_s`: so long a session is kept by which
    nothing comes or goes, which is more than the day after which an observer is probed; `session_silent_s`: when nothing came back for
    so long, the next request to that server has a new session.
    """

    peers: int = 10_000
    messages_per_peer: int = 1_024
    messages: int = 32_768
    bytes_per_peer: int = 256 * 1024
    bytes: int = 16 * 1024 * 1024
    requests_per_peer: int = 64
    requests_per_host: int = 512
    requests: int = 4_096
    waiting_per_peer: int = 64
    options: int = 256
    payload_bytes: int = 1024 * 1024
    answers_bytes: int = 64 * 1024 * 1024
    uploads: int = 64
    uploads_per_peer: int = 4
    uploads_per_host: int = 16
    kept_answers: int = 256
    kept_answers_per_peer: int = 4
    kept_answers_per_host: int = 64
    kept_bytes: int = 16 * 1024 * 1024
    transfer_idle_s: float = 60.0
    ack_delay_s: float = 0.5
    ack_delay_in_group_s: float = 0.1
    awaited: int = 16_384
    source_requests_per_s: float = 500.0
    source_bytes_per_s: float = 1_000_000.0
    source_burst_s: float = 4.0
    unproven: Unproven = Unproven.ECHO
    echo_s: float = 30.0
    proven_s: float = 600.0
    probing_bytes: int = 2_048
    observers: int = 4_096
    observers_per_host: int = 256
    observers_per_resource: int = 2_048
    observe_request_bytes: int = 4_096
    observe_unconfirmed: int = 19
    observe_confirm_s: float = 600.0
    observe_probe_s: float = 86_400.0
    observe_settle_s: float = 5.0
    observe_pace_s: float = 0.1
    handshakes: int = 256
    handshakes_per_host: int = 64
    handshakes_per_s: float = 64.0
    handshake_s: float = 40.0
    sessions: int = 2_048
    sessions_per_host: int = 512
    session_idle_s: float = 90_000.0
    session_silent_s: float = 10.0
