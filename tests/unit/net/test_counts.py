"""What is counted by reason, and how often a fault is logged."""

from __future__ import annotations

import errno

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.metrics import Metrics
from m2mapp.net.counts import COMPLAIN_EVERY_S, Counts


class CountsTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        """A send that failed is counted under its reason, and False is given back; an unknown number is `other`."""
        metrics = Metrics()
        counts = Counts(Clock(), metrics)
        for error in (BlockingIOError(errno.EAGAIN, ""), OSError(errno.ENETUNREACH, ""), OSError(errno.EXDEV, ""), ValueError("port")):
            self.assertFalse(counts.not_sent(error))
        found = {name: instruments for name, _, instruments in metrics.collect()}["m2mapp_net_send_failures_total"]
        reasons = [dict(labels)["reason"] for labels in found]
        self.assertEqual(sorted(reasons), ["address", "buffer-full", "other", "unreachable"])

    def test_one_line_in_a_while(self) -> None:
        """Each sort of fault may be logged once in ten seconds, whatever the others do."""
        clock = Clock()
        counts = Counts(clock, Metrics())
        self.assertEqual([counts.may_log("a"), counts.may_log("a"), counts.may_log("b")], [True, False, True])
        clock.advance(COMPLAIN_EVERY_S)
        self.assertEqual([counts.may_log("a"), counts.may_log("a")], [True, False])
