"""`lwm2m.drivers.pushing` and `noting`: a gateway's reports by HTTP, with a server that is away, deaf or started anew, and after kills."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.model.errors import StorageFull
from m2mapp.tree.unit import Remove
from tests.unit.lwm2m.reporting import Gateway, Server, duid, fanout_set, lease, registration

_BATCHES = ReportSettings(lwm2m=False, push="bs", batch_s=10.0)


class PushTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_at_once(self) -> None:
        """Each device is told by a PUT of its own, in the order in which they came, once; then the report says when it was confirmed."""
        gateway = Gateway(self.server)
        for number in (2, 1, 3):
            gateway.commit(lease(number))
            gateway.run(0.2)
        gateway.run(60)
        self.assertEqual(gateway.way.told, [f"PUT {duid(number)}" for number in (2, 1, 3)])
        self.assertEqual(self.server.known(), [duid(1), duid(2), duid(3)])
        self.assertEqual((gateway.report(2)["queued"], gateway.report(2)["reportedAt"]), (None, "2027-01-15T08:00:00.000Z"))

    def test_batches(self) -> None:
        """What comes within the time of a batch is one request: all devices by PUT, some of them by PATCH, with those that are gone."""
        gateway = Gateway(self.server, _BATCHES)
        gateway.commit(*(lease(number) for number in range(3)))
        gateway.run(11)
        gateway.commit(lease(1, validUntil=None), lease(4))
        gateway.commit(Remove(("leases", duid(0))))
        gateway.run(11)
        self.assertEqual(gateway.way.told, ["PUT devices", "PATCH devices"])
        self.assertEqual(self.server.known(), [duid(1), duid(2), duid(4)])
        self.assertEqual(gateway.report(0), {})

    def test_server_away(self) -> None:
        """While the server is away pauses grow and the latest state of each device waits; then all is told, in order, each device once."""
        gateway = Gateway(self.server)
        gateway.way.away = True
        gateway.commit(lease(1))
        gateway.run(1)
        gateway.commit(lease(2))
        gateway.commit(lease(1, validUntil="2098-01-15T10:00:00.000Z"))
        gateway.run(600)
        self.assertLess(len(gateway.way.sent), 14)
        gateway.way.away = False
        gateway.run(300)
        gateway.run(300)
        self.assertEqual(gateway.way.told[-2:], [f"PUT {duid(1)}", f"PUT {duid(2)}"])
        self.assertEqual(gateway.way.told.count(f"PUT {duid(1)}"), 1)
        shown = self.server.read(f"/gateways/g1/devices/{duid(1)}")
        self.assertEqual(shown["report"]["leases"][0]["validUntil"], "2098-01-15T10:00:00.000Z")  # type: ignore[index]

    def test_many_wait(self) -> None:
        """A thousand devices that waited are told in few requests."""
        gateway = Gateway(self.server)
        gateway.way.away = True
        gateway.commit(*(lease(number) for number in range(1000)))
        gateway.run(5)
        gateway.way.away = False
        gateway.run(60)
        self.assertEqual(len(self.server.known()), 1000)
        self.assertEqual(gateway.way.told, ["PATCH devices", "PATCH devices"])

    def test_later_steps(self) -> None:
        """That a device registers, joins its groups, and loses either again, is reported with its time, as it was seen."""
        gateway = Gateway(self.server)
        gateway.commit(lease(1))
        gateway.run()
        gateway.built.clock.advance(1000)
        gateway.commit(registration(1))
        gateway.run()
        gateway.built.clock.advance(1000)
        uri = "coap://dev-1.example.org/temperature"
        gateway.commit(fanout_set({uri: "pending"}))
        gateway.run()
        self.assertEqual(list(self._steps()), ["address given", "registered"])
        gateway.commit(fanout_set({uri: "joined"}))
        gateway.run()
        at = ("2027-01-15T08:00:00.000Z", "2027-01-15T08:00:01.000Z", "2027-01-15T08:00:02.000Z")
        self.assertEqual(self._steps(), dict(zip(("address given", "registered", "in groups"), at, strict=True)))
        gateway.built.clock.advance(1000)
        gateway.commit(fanout_set({uri: "proven"}), Remove(("scls", "dev-1")))
        gateway.run()
        report = self._report()
        self.assertEqual((list(report["steps"]), report["groups"]), (["address given"], {}))  # type: ignore[call-overload]
        self.assertEqual(report["ended"], dict.fromkeys(("registered", "in groups"), "2027-01-15T08:00:03.000Z"))
        self.assertEqual(report["endpoint"], "dev-1")

    def test_steps_while_away(self) -> None:
        """Steps that came while the server was away have the times at which they came, also where the gateway was killed meanwhile."""
        gateway = Gateway(self.server)
        gateway.way.away = True
        gateway.commit(lease(1))
        gateway.run()
        gateway.built.clock.advance(1000)
        gateway.commit(registration(1), fanout_set({"coap://[fd00::d:1]/t": "joined"}))
        gateway.run()
        gateway.built.clock.advance(60_000)
        gateway.way.away = False
        gateway.start()
        gateway.run(30)
        at = dict.fromkeys(("registered", "in groups"), "2027-01-15T08:00:01.000Z")
        self.assertEqual(self._steps(), {"address given": "2027-01-15T08:00:00.000Z", **at})

    def test_killed_anywhere(self) -> None:
        """Killed before a report was written down, sent, or confirmed, a gateway tells the server what it has not confirmed."""
        for pause_s, deaf in ((0.0, False), (0.06, False), (0.2, True), (5.0, False)):
            with self.subTest(pause_s=pause_s, deaf=deaf):
                gateway = Gateway(self.server, name=f"g{pause_s}")
                gateway.way.deaf = deaf
                gateway.commit(lease(1, address=f"fd00::{int(pause_s * 100) + 1}"))
                gateway.clock.advance(pause_s)
                gateway.way.deaf = False
                gateway.start()
                gateway.run(30)
                self.assertEqual(self.server.known(gateway.name), [duid(1)])
                self.assertIsNone(gateway.report(1)["queued"])

    def test_changed_while_sent(self) -> None:
        """A state that is new while the one before is being told is told after it: nothing is confirmed that was not sent."""
        gateway = Gateway(self.server)
        gateway.commit(lease(1))
        gateway.built.committer.hold()
        gateway.commit(lease(1, validUntil=None))
        gateway.run()
        gateway.built.committer.release()
        gateway.run(30)
        self.assertIsNone(self._report()["leases"][0]["validUntil"])  # type: ignore[index]
        self.assertIsNone(gateway.report(1)["queued"])

    def test_confirmed_later(self) -> None:
        """As in the store, who waits for a confirmation to be written is answered before the tree's watchers: nothing is sent twice."""
        gateway = Gateway(self.server)
        gateway.run(0.1)
        gateway.commit(lease(1))
        for seconds in (0.05, 0.01):  # the report is written down, then told and confirmed
            gateway.built.committer.hold()
            gateway.clock.advance(seconds)
            gateway.built.committer.release()
        gateway.run(5)
        self.assertEqual((gateway.way.told, gateway.report(1)["queued"]), ([f"PUT {duid(1)}"], None))

    def test_gone(self) -> None:
        """A device without a lease is taken from the server; then nothing is kept of it, as where the server never knew it."""
        gateway = Gateway(self.server)
        gateway.commit(lease(1))
        gateway.run()
        gateway.commit(Remove(("leases", duid(1))))
        gateway.run()
        self.assertEqual((self.server.known(), gateway.report(1)), ([], {}))
        gateway.way.away = True
        gateway.commit(lease(2))
        gateway.run()
        gateway.commit(Remove(("leases", duid(2))))
        gateway.way.away = False
        gateway.run(30)
        self.assertEqual((gateway.way.told[-1], gateway.report(2)), (f"DELETE {duid(2)}", {}))

    def test_refused(self) -> None:
        """A report that the server will never take is set aside with the reason, and keeps no other, alone or in a batch."""
        for settings in (None, _BATCHES):
            self.server = Server()
            other = Gateway(self.server, name="g2")
            other.commit(lease(9, address="fd00::d:1"))
            other.run()
            gateway = Gateway(self.server, settings)
            gateway.commit(lease(1), lease(2))
            gateway.run(30)
            self.assertEqual(self.server.known(), [duid(2)])
            self.assertIn("the gateway g2 has given", str(gateway.report(1)["refused"]))
            self.assertEqual((gateway.report(1)["queued"], gateway.report(1)["reportedAt"]), (None, None))
            gateway.commit(lease(1, address="fd00::d:11"))
            gateway.run(30)
            self.assertEqual(self.server.known(), [duid(1), duid(2)])
            self.assertNotIn("refused", gateway.report(1))

    def test_batch_refused(self) -> None:
        """Where a server refuses a whole batch, each device is told alone."""
        gateway = Gateway(self.server, _BATCHES)
        gateway.commit(lease(1), lease(2))
        gateway.way.code = "413"
        gateway.run(10.6)
        gateway.way.code = ""
        gateway.run(10)
        self.assertEqual(gateway.way.told, ["PUT devices", f"PUT {duid(1)}", f"PUT {duid(2)}"])

    def test_token_refused(self) -> None:
        """A server that refuses the token is asked again; what waits is kept."""
        gateway = Gateway(self.server)
        gateway.way.code = "401"
        gateway.commit(lease(1))
        gateway.run(60)
        self.assertIsNotNone(gateway.report(1)["queued"])
        gateway.way.code = ""
        gateway.run(120)
        self.assertEqual(self.server.known(), [duid(1)])

    def test_server_lost_all(self) -> None:
        """A server that does not know the gateway any more is told of all devices again."""
        gateway = Gateway(self.server)
        gateway.commit(lease(1), lease(2))
        gateway.run(5)
        gateway.way.server = self.server = Server()
        gateway.start()
        gateway.run(30)
        self.assertEqual(self.server.known(), [duid(1), duid(2)])

    def test_disk_full(self) -> None:
        """What cannot be written down is looked at again, and told then."""
        gateway = Gateway(self.server)
        gateway.commit(lease(1))
        gateway.built.committer.hold()
        gateway.run()
        gateway.built.committer.fail_held(StorageFull())
        gateway.run(30)
        self.assertEqual(self.server.known(), [duid(1)])

    def test_stop(self) -> None:
        """A stop leaves nothing pending, whatever was under way."""
        for pause_s in (0.0, 0.06, 5.0):
            gateway = Gateway(self.server, name=f"g{pause_s}")
            gateway.commit(lease(1))
            gateway.clock.advance(pause_s)
            self.successResultOf(gateway.service.stopService())
            self.assertEqual(gateway.clock.getDelayedCalls(), [])

    def _report(self) -> dict[str, object]:
        report = self.server.read(f"/gateways/g1/devices/{duid(1)}")["report"]
        return report if isinstance(report, dict) else {}

    def _steps(self) -> dict[str, object]:
        return json.loads(json.dumps(self._report()["steps"]))  # type: ignore[no-any-return]
