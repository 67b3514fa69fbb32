"""The import of txThings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import m2mapp
from m2mapp.coap import things


class ThingsTests(SynchronousTestCase):
    def test_warnings_stay_inside(self) -> None:
        """Importing the package raises nothing where warnings are errors, and keeps a reactor that was installed before."""
        program = (
            "import sys; sys.dont_write_bytecode = True\n"
            "from twisted.internet import selectreactor; selectreactor.install()\n"
            "from m2mapp.coap import service\n"
            "from twisted.internet import reactor\n"
            "assert type(reactor).__name__ == 'SelectReactor', reactor\n"
        )
        root = Path(m2mapp.__file__).parent.parent
        run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, cwd=root)
        self.assertEqual((run.returncode, run.stderr), (0, ""))

    def test_constants(self) -> None:
        """The constants are those of RFC 7252 and RFC 7959."""
        self.assertEqual((things.CON, things.NON, things.ACK, things.RST), (0, 1, 2, 3))
        self.assertEqual((things.CONTENT, things.CONTINUE, things.PROXYING_NOT_SUPPORTED), (0x45, 0x5F, 0xA5))
        self.assertEqual((things.URI_PATH, things.BLOCK2, things.SIZE1), (11, 23, 60))
        self.assertEqual((things.ACK_TIMEOUT_S, things.ACK_RANDOM_FACTOR, things.MAX_RETRANSMIT), (2.0, 1.5, 4))
