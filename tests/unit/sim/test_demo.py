"""`sim.demo`: how it starts, asks, tells and stops, with small processes in the place of gateway and devices.

The real ones are run by the system tests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.sim import demo
from m2mapp.sim.demo import Children, DemoFailed, alone_in, main, take_port
from m2mapp.sim.files import Layout
from m2mapp.sim.network import COAP_PORT, NAMESPACES, Network, NetworkUnavailable

GATEWAY = """
import http.server, json, pathlib, socket, sys
if sys.argv[1] == "dies":
    sys.exit("the gateway has had enough")
directory = pathlib.Path(sys.argv[-1]).parent
(directory / "state/gateway").mkdir(exist_ok=True)
(directory / "state/gateway/admin.token").write_text("secret-token\\n")
asked = (directory / "asked").open("a")

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        there = {"/scls?limit=60": {"children": [{}] * (0 if sys.argv[1] == "waits" else 30)}, "/readyz": {}}
        self.answer(200, there.get(self.path, {"state": "ready"}))
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked.write(json.dumps([self.path, self.headers["Authorization"], body]) + "\\n")
        asked.flush()
        status = {"refuses": 400, "knows": 409}.get(sys.argv[1], 201)
        self.answer(status, {"detail": "no such thing"})
    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[sys.argv.index("--listen") + 1]))
server.server_name, server.server_port = "localhost", 0
server.serve_forever()
"""


def shell(script: str) -> tuple[str, ...]:
    """A prefix that runs a script in the place of what follows."""
    return ("sh", "-c", script, "sh")


class MainTests(SynchronousTestCase):
    def run_main(self, how: str = "works", devices: str = "exec sleep 60") -> tuple[int, str, Path]:
        """Exit code, what was said, and the directory of one run with that gateway."""
        directory = Path(self.mktemp()).resolve()
        network = Network(
            NAMESPACES, "fd00::1", "gw0", "dev0", COAP_PORT, True, (sys.executable, "-W", "ignore", "-c", GATEWAY, how), shell(devices)
        )
        self.patch(demo, "open_network", lambda wish, devices, tell: network)
        self.patch(os, "environ", {**os.environ, "M2MAPP_RUN": str(directory)})
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = main(["--seconds", "0.1"])
        return code, said.getvalue(), directory

    def test_whole_run(self) -> None:
        """It makes the four groups with the gateway's token, prints address, token and commands, stops, and ends with 0.

        Three commands, and three more where devices come by the whole chain.
        """
        code, said, directory = self.run_main()
        self.assertEqual(code, 0, said)
        asked = [json.loads(line) for line in (directory / "asked").read_text().splitlines()]
        self.assertEqual([(path, authorization) for path, authorization, _ in asked], [("/groups", "Bearer secret-token")] * 4)
        self.assertEqual([len(body["members"]) for _, _, body in asked], [30, 10, 10, 10])
        commands = 6 if "network: namespaces" in said else 3
        self.assertEqual((said.count("curl "), said.count("secret-token")), (commands, commands + 1), said)
        self.assertIn("/groups/devices/membersContent", said)
        self.assertTrue((directory / "devices" / "d30.toml").exists())

    def test_groups_of_an_earlier_run(self) -> None:
        """Groups that are there already are no fault."""
        self.assertEqual(self.run_main("knows")[0], 0)

    def test_gateway_refuses(self) -> None:
        """A gateway that refuses a group ends the run with 1, and what it said is told."""
        code, said, _ = self.run_main("refuses")
        self.assertEqual((code, "no such thing" in said), (1, True), said)

    def test_process_that_ends_by_itself(self) -> None:
        """A process that ends by itself ends the run with 1, and the end of its log is told."""
        code, said, _ = self.run_main("dies")
        self.assertEqual((code, "the gateway has had enough" in said), (1, True), said)
        code, said, _ = self.run_main("waits", "echo out of batteries; exit 3")
        self.assertEqual((code, "out of batteries" in said and "with 3" in said), (1, True), said)

    def test_no_network(self) -> None:
        """A network that is not to be had ends the run with 1 and the reason."""
        directory = self.mktemp()

        def refuse(*_: object) -> Network:
            raise NetworkUnavailable("no network here")

        self.patch(demo, "open_network", refuse)
        self.patch(os, "environ", {**os.environ, "M2MAPP_RUN": directory})
        for number in (signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertEqual(main([]), 1)
        self.assertIn("no network here", said.getvalue())

    def test_stopping_ends_every_wait(self) -> None:
        """When it is to stop it does so wherever it waits, here for a gateway that is never ready, and leaves no process."""
        layout = Layout(Path(self.mktemp()).resolve())
        layout.directory.mkdir()
        network = Network(NAMESPACES, "fd00::1", "gw0", "dev0", COAP_PORT, True, shell("exec sleep 60"), shell("exec sleep 60"))
        stopping = threading.Event()
        stopping.set()
        run = demo.Demo(layout, network, stopping)
        started = run._children._running
        with contextlib.redirect_stdout(io.StringIO()) as said:
            run.run(None)
        self.assertEqual((said.getvalue().strip().splitlines()[-1], started), ("stopping", []))


class ChildrenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.layout = Layout(Path(self.mktemp()).resolve())
        self.layout.directory.mkdir()
        self.children = Children(self.layout)
        self.addCleanup(self.children.stop)

    def test_stop(self) -> None:
        """Each process is asked to stop and has stopped afterwards; stopping again is no error."""
        self.children.start("gateway", shell("exec sleep 60"), self.layout.gateway_file)
        self.children.start("devices", shell("exec sleep 60"), self.layout.device_directory)
        self.children.check()
        processes = [process for _, process in self.children._running]
        self.children.stop()
        self.assertEqual([process.returncode for process in processes], [-signal.SIGTERM, -signal.SIGTERM])
        self.children.stop()

    def test_process_that_does_not_stop_is_killed(self) -> None:
        """A process that ignores the request is killed in the end, which is told."""
        self.patch(demo, "_STOP_TIMEOUT_S", 0.2)
        self.children.start("gateway", shell("trap '' TERM; echo there; exec sleep 60"), self.layout.gateway_file)
        (_, process) = self.children._running[0]
        while "there" not in self.layout.log("gateway").read_text():
            self.assertIsNone(process.poll())
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.children.stop()
        self.assertEqual((process.returncode, "is killed" in said.getvalue()), (-signal.SIGKILL, True))

    def test_log_of_what_ended(self) -> None:
        """The fault of a process that ended has the last lines of its log, not all of it."""
        self.children.start("gateway", shell("for i in $(seq 100); do echo line $i.; done; exit 7"), self.layout.gateway_file)
        self.children._running[0][1].wait(60)
        error = self.assertRaises(DemoFailed, self.children.check)
        self.assertIn("line 100.", str(error))
        self.assertNotIn("line 50.", str(error))


class PlaceTests(SynchronousTestCase):
    def test_one_at_a_time(self) -> None:
        """A second run in the same directory is refused while the first one lasts, and not after it."""
        layout = Layout(Path(self.mktemp()).resolve())
        with alone_in(layout):
            self.assertRaises(DemoFailed, alone_in(layout).__enter__)
        with alone_in(layout):
            pass

    def test_port_that_is_taken(self) -> None:
        """A port that is taken is told and another one used; a free one is used as it is."""
        with socket.create_server(("127.0.0.1", 0)) as taken, contextlib.redirect_stdout(io.StringIO()) as said:
            number = taken.getsockname()[1]
            with take_port(number) as other:
                self.assertNotEqual(other.getsockname()[1], number)
        self.assertIn(f"port {number}", said.getvalue())
