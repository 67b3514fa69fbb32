"""A group whose members and sub-groups never stop answering: the gateway takes so much of each, says so, and answers for the rest."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.namespaces import wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import ROOT, environment, free_port

_DEADLINE_S = 30.0
_MOST_GROWTH_KB = 150 * 1024
"""Three answers of 16 MiB at most, while the parts of one are joined, with the small ones; without a bound it is gigabytes."""


def peak_kb(gateway: Gateway) -> int:
    """The most memory that a gateway's process has had, in KiB."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None, status
    return int(found[1])


class EndlessTests(SynchronousTestCase):
    def test_endless_answers(self) -> None:
        """Blocks, bodies and headers without end, of members and of groups elsewhere: an error of each, the others' answers, no memory."""
        with Site(namespaces=False) as site:
            coap, http = free_port(), free_port()
            log = site.folder / "endless.log"
            command = [sys.executable, "-m", "tests.system.endless_child", str(coap), str(http)]
            site.here.popen(command, env=environment(), cwd=ROOT, log=log)
            own = f"127.0.0.1:{free_port()}"
            gateway = site.gateway_here("gw", {"coap": {"listen": [own], "interfaces": ["lo"]}, "groups": {"deadline_s": _DEADLINE_S}})
            gateway.start()
            wait_until(lambda: "serving" in log.read_text(), what="the peer")
            endless = [f"coap://127.0.0.1:{coap}/x", f"coap://127.0.0.1:{coap}/groups/x"]
            endless += [f"http://127.0.0.1:{http}{path}" for path in ("/x", "/groups/x", "/head")]
            good = [f"coap://127.0.0.1:{coap}/good", f"http://127.0.0.1:{http}/good"]
            gateway.put_document("/groups/all", {"members": [*endless, *good]})
            before_kb, began_s = peak_kb(gateway), time.monotonic()
            shown = gateway.get("/groups/all/membersContent").json()
            self.assertLess(time.monotonic() - began_s, _DEADLINE_S)
            members = shown["members"]
            assert isinstance(members, dict)
            expected = {**dict.fromkeys(endless, "5.02"), good[0]: "2.05", good[1]: "200"}
            self.assertEqual({uri: entry["status"] for uri, entry in members.items()}, expected)
            for uri in endless:
                self.assertRegex(str(members[uri]["content"]), "more than [0-9]+ bytes")
            self.assertEqual((shown["silent"], shown["complete"]), ([], True))
            self.assertLess(peak_kb(gateway) - before_kb, _MOST_GROWTH_KB)
            self.assertEqual(gateway.request("GET", "/readyz").status, 200)
