"""Many devices in few processes on one link, powered on at once: none is forgotten on the way to its group. In the soak in one process."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.system.crowds import room_for_neighbours
from tests.system.device_crowd import DeviceCrowd
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import SMOKE, Site

_SOAK = os.environ.get("M2MAPP_SOAK") == "1"
_COUNT, _EACH = (2000, 2000) if _SOAK else (50, 50) if SMOKE else (1000, 250)
_PATIENCE_S = 120.0


class DeviceCrowdTests(SynchronousTestCase):
    skip = skip_reason("sysctl")

    def test_none_is_forgotten(self) -> None:
        """Each device has an address, is bootstrapped and registered; in their group each answers."""
        with room_for_neighbours(), Site() as site:
            crowd = DeviceCrowd(site, _COUNT, _EACH)
            crowd.make_group()
            crowd.power_on()
            for step in ("leased", "bootstrapped", "registered", "joined"):
                wait_until(lambda step=step: crowd.reach(step), _PATIENCE_S, f"all to be {step}")  # type: ignore[misc]
            self.assertEqual(list(crowd.read_group().values()), ["2.05"] * _COUNT)
