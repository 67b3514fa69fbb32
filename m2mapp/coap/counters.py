"""What the CoAP service counts. Responsible for the names of its metrics, nothing else."""

from __future__ import annotations

from typing import Final

from m2mapp.coap.observer import Reason
from m2mapp.model.metrics import Counter, Metrics

_PREFIX: Final = "m2mapp_coap_"


class Counters:
    """The counters of one CoAP service, as attributes, because they are used for every message."""

    __slots__ = (
        "dtls_dropped",
        "dtls_established",
        "dtls_failed",
        "dtls_repeated",
        "dtls_unverified",
        "echo_asked",
        "failed",
        "given_up",
        "late",
        "malformed",
        "notifications",
        "observations_ended",
        "observers_refused",
        "over_rate",
        "received",
        "refused",
        "registered_again",
        "reordered",
        "repeated",
        "requests",
        "resets_received",
        "resets_sent",
        "retransmitted",
        "sent",
        "suppressed",
        "unexpected",
        "unsent",
    )

    def __init__(self, metrics: Metrics) -> None:
        def counter(name: str, about: str) -> Counter:
            return metrics.counter(f"{_PREFIX}{name}_total", about)

        self.received = counter("datagrams_received", "Datagrams that came in on a CoAP port.")
        self.sent = counter("datagrams_sent", "Datagrams given to the system on a CoAP port.")
        self.unsent = counter("datagrams_unsent", "Datagrams that the system did not take.")
        self.malformed = counter("malformed", "Datagrams that were no CoAP message, or one that CoAP forbids.")
        self.repeated = counter("repeated", "Messages that had come before and were not acted on again.")
        self.retransmitted = counter("retransmitted", "Confirmable messages sent again for want of an acknowledgement.")
        self.given_up = counter("given_up", "Confirmable messages that were never acknowledged.")
        self.resets_received = counter("resets_received", "Reset messages that came in.")
        self.resets_sent = counter("resets_sent", "Reset messages sent.")
        self.unexpected = counter("unexpected", "Answers and acknowledgements that nobody here waits for.")
        self.requests = counter("requests", "Requests that reached the server.")
        self.refused = counter("refused", "Requests refused because too much is under way.")
        self.over_rate = counter("over_rate", "Messages beyond what their source may send, not acted on.")
        self.echo_asked = counter("echo_asked", "Requests of sources that were asked to prove their address (Echo).")
        self.failed = counter("failed", "Requests that were answered 5.00 for a fault of this program.")
        self.suppressed = counter("suppressed", "Answers not sent, by the rules of multicast or No-Response.")
        self.notifications = counter("notifications", "Notifications sent to observers, each attempt counted.")
        self.reordered = counter("notifications_reordered", "Notifications of peers that came after newer ones, and were dropped.")
        self.registered_again = counter("observations_registered_again", "Registrations of this node as an observer, made anew.")
        self.observers_refused = counter("observers_refused", "Registrations answered without Observe, for want of room.")
        about = "Observations of this node's resources that ended."
        self.observations_ended = {
            reason: metrics.counter(f"{_PREFIX}observations_ended_total", about, reason=reason.value) for reason in Reason
        }
        self.late = counter("late_group_answers", "Answers to group requests that came after these were closed.")
        self.dtls_dropped = counter("dtls_dropped", "Datagrams to a DTLS port that were no record, or of no session.")
        self.dtls_unverified = counter("dtls_unverified_hellos", "Beginnings of DTLS handshakes whose source was not verified yet.")
        self.dtls_established = counter("dtls_established", "DTLS sessions established.")
        self.dtls_failed = counter("dtls_handshakes_failed", "DTLS handshakes that ended without a session.")
        self.dtls_repeated = counter("dtls_flights_repeated", "Flights of DTLS handshakes that were sent again.")
