"""The CoAP port at the address that a device was given."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.given import LISTEN_AGAIN_S, PORT, ListeningWhereGiven
from m2mapp.tree.device_address import DEVICE_ADDRESS
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import build_tree


class _Coap:
    """Records where it is to listen; `refused` is raised in place of that."""

    def __init__(self) -> None:
        self.at: list[str] = []
        self.refused: OSError | None = None

    def serve_at(self, host: str, port: int) -> None:
        if self.refused is not None:
            raise self.refused
        self.at = [f"{host} {port}"]

    def serve_there_no_more(self) -> None:
        self.at = []


class ListeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.built, self.clock, self.coap, self.told = build_tree(), Clock(), _Coap(), list[str | None]()
        self.service = ListeningWhereGiven(self.clock, self.built.tree, self.coap, self.told.append)  # type: ignore[arg-type]  # two methods do
        self.service.startService()
        self.addCleanup(lambda: self.service.stopService() if self.service.running else None)

    def given(self, address: str) -> None:
        """The node has this address."""
        self.built.committer.commit(Unit((Write(DEVICE_ADDRESS, "device-address", {"address": address}),)))

    def test_follows(self) -> None:
        """It listens where the node was given an address, at another one when that changes, and nowhere when it is gone."""
        self.given("fd00::d1")
        self.given("fd00::d1")
        self.assertEqual((self.coap.at, self.told), ([f"fd00::d1 {PORT}"], ["fd00::d1"]))
        self.given("fd00::d2")
        self.assertEqual((self.coap.at, self.told), ([f"fd00::d2 {PORT}"], ["fd00::d1", "fd00::d2"]))
        self.built.committer.commit(Unit((Remove(DEVICE_ADDRESS),)))
        self.assertEqual((self.coap.at, self.told[-1]), ([], None))

    def test_refused(self) -> None:
        """An address that the system does not let it listen at is tried again; after a stop no more."""
        self.coap.refused = OSError(99, "Cannot assign requested address")
        self.given("fd00::d1")
        self.coap.refused = None
        self.clock.advance(LISTEN_AGAIN_S)
        self.assertEqual(self.coap.at, [f"fd00::d1 {PORT}"])
        self.coap.refused = OSError(99, "Cannot assign requested address")
        self.given("fd00::d2")
        self.service.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_of_the_run_before(self) -> None:
        """What the tree says at a start is of the run before."""
        self.service.stopService()
        self.given("fd00::d1")
        self.service.startService()
        self.assertEqual(self.coap.at, [])
