"""`sim.child`: becomes the program that it is given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.sim.child import split

ADOPTS = """
import os, sys
from twisted.python.systemd import ListenFDs
fds = ListenFDs.fromEnvironment().inheritedDescriptors()
import socket
print(fds, socket.socket(fileno=fds[0]).getsockname()[1] if fds else None, sys.argv[1:])
"""


class ChildTests(SynchronousTestCase):
    def run_child(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> str:
        command = [sys.executable, "-m", "m2mapp.sim.child", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(command, capture_output=True, text=True, pass_fds=pass_fds, env=environment, timeout=60, check=True)
        return done.stdout.strip()

    def test_becomes_the_program(self) -> None:
        """The program runs with its arguments, options among them, and without a socket where none is handed on."""
        self.assertEqual(self.run_child(sys.executable, "-c", ADOPTS, "--config", "x"), "[] None ['--config', 'x']")

    def test_hands_a_socket_on(self) -> None:
        """Twisted finds the listening socket as if systemd had handed it on."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            said = self.run_child("--listen", str(listener.fileno()), sys.executable, "-c", ADOPTS, pass_fds=(listener.fileno(),))
            self.assertEqual(said, f"[3] {listener.getsockname()[1]} []")

    def test_arguments_that_make_no_sense(self) -> None:
        """Without a program, or with an option that it does not know, it says how it is used."""
        for arguments in ([], ["--listen", "3"], ["--listen", "x", "sh"], ["--other", "sh"]):
            self.assertRaises(SystemExit, split, arguments)
        self.assertEqual(split(["--listen", "7", "sh", "--listen"]), (7, ["sh", "--listen"]))
