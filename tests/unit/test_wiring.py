"""`twistd m2m`: the real world under a node, the command line, and what a node that cannot start says."""

from __future__ import annotations

import io
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from twisted.internet import reactor as _reactor  # noqa: TID251 - whole nodes on the real one
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from m2mapp import wiring
from m2mapp.config import EXIT_CONFIG, load
from m2mapp.http.service import HttpService
from m2mapp.model.messages import Method, Response
from m2mapp.model.metrics import Metrics
from m2mapp.node.build import make_node
from m2mapp.node.life import Between, Node
from m2mapp.wiring import EXIT_CANNOT_START, FILES_A_NODE, Nodes, Options, config_files, makeService, system_world
from tests.unit.fakes import ask

ROOT = Path(__file__).resolve().parent.parent.parent


def config(directory: Path, name: str = "g1", **tables: str) -> str:
    """A configuration file with a state directory of its own, HTTP and CoAP on loopback at any ports; `tables` are their lines."""
    given = {"http": 'listen = ["tcp:0:interface=127.0.0.1"]', "coap": 'listen = ["127.0.0.1:0"]', **tables}
    text = f'[node]\nname = "{name}"\nstate_dir = "{directory / name}"\n'
    text += "".join(f"[{table}]\n{lines}\n" for table, lines in given.items())
    file = directory / f"{name}.toml"
    file.write_text(text)
    return str(file)


class NodeTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    async def answer(self, node: Node, method: Method, path: str, payload: bytes = b"") -> Response:
        """The node's answer."""
        answered: Deferred[Response] = maybeDeferred(lambda: node.handler.handle(ask(method, path, payload)))
        return await answered

    async def prepared(self, node: Node) -> None:
        """Wait until the node is prepared."""
        for _ in range(500):
            if node.prepared:
                return
            await deferLater(IReactorTime(_reactor), 0.01)
        raise AssertionError("the node is not prepared after five seconds")

    async def test_start_stop_start(self) -> None:
        """A whole node starts, is written to, stops with nothing pending, and starts again with what was written."""
        world, _ = system_world()
        settings = load(
            config(self.directory, groups="", member="", coap='listen = ["127.0.0.1:0"]\ninterfaces = ["lo"]', sim='model = "temperature"')
        )
        node = make_node(settings, world)
        for _ in range(2):
            node.privilegedStartService()
            node.startService()
            await self.prepared(node)
            [port] = node.part(HttpService).ports()
            self.assertGreater(port, 0)
            if node.tree.find(("kept",)) is None:
                await self.answer(node, Method.PUT, "/kept", b"1")
            await node.stopService()
            self.assertFalse(node.running)
        node = make_node(settings, world)
        node.startService()
        self.assertEqual((await self.answer(node, Method.GET, "/kept")).payload, b"1")
        self.assertIn("temperature", (await self.answer(node, Method.GET, "/.well-known/core")).payload.decode())
        await node.stopService()
        self.assertEqual((self.directory / "g1" / "admin.token").stat().st_mode & 0o777, 0o600)

    async def test_nodes_share(self) -> None:
        """Nodes of one process share the threads of their stores and the reading of the host's addresses, and stop one by one."""
        world, threads = system_world()
        nodes = [make_node(load(config(self.directory, name)), world) for name in ("a", "b")]
        first, second = (world.addresses(world.datagrams(node.settings, Metrics()), ()) for node in nodes)
        self.assertIs(first, second)
        for node in nodes:
            node.startService()
        for node in nodes:
            await self.prepared(node)
        await nodes[0].stopService()
        await self.answer(nodes[1], Method.PUT, "/x", b"1")
        await nodes[1].stopService()
        self.assertRaises(RuntimeError, threads.run, lambda: None)

    async def test_told_to_the_service_manager(self) -> None:
        """READY when all nodes are up, STOPPING when they are told to stop."""
        place = str(Path(self.mktemp()).absolute())[-90:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + place)
            manager.setblocking(False)
            environment: Mapping[str, str] = {"NOTIFY_SOCKET": "@" + place}
            self.patch(sys.modules["m2mapp.wiring"].os, "environ", environment)
            world, threads = system_world()
            nodes = Nodes(threads)
            node = make_node(load(config(self.directory)), world)
            node.setServiceParent(nodes)
            nodes.privilegedStartService()
            nodes.startService()
            self.assertEqual(manager.recv(100), b"READY=1")
            await nodes.stopService()
            self.assertEqual(manager.recv(100), b"STOPPING=1")

    def test_a_part_that_is_broken(self) -> None:
        """Whatever a part raises when it starts, the threads of the stores end: they would keep the process from ending."""
        world, threads = system_world()
        nodes = Nodes(threads)
        node = make_node(load(config(self.directory)), world)
        node.setServiceParent(nodes)

        def begin() -> None:
            raise ValueError("broken")

        node.parts = (*node.parts, Between("broken", begin, lambda: None))
        self.assertRaises(ValueError, nodes.startService)
        self.assertRaises(RuntimeError, threads.run, lambda: None)


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.told = io.StringIO()
        self.patch(sys, "stderr", self.told)

    def parse(self, *arguments: str) -> Options:
        """The options of a command line."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_files(self) -> None:
        """A file is itself, a directory its *.toml files by name; both may be given again and again."""
        for name in ("b", "a"):
            config(self.directory, name)
        (self.directory / "notes.txt").write_text("none")
        names = [Path(file).name for file in config_files([str(self.directory), "/x.toml"])]
        self.assertEqual(names, ["a.toml", "b.toml", "x.toml"])
        options = self.parse("--config", str(self.directory))
        self.assertEqual([settings.node.name for settings in options["settings"]], ["a", "b"])

    def test_check(self) -> None:
        """`--check` ends with 0 where all is right, with 78 and the faults where it is not."""
        file = config(self.directory)
        self.assertEqual(self.assertRaises(SystemExit, self.parse, "--check", "--config", file).code, 0)
        self.assertEqual(self.told.getvalue(), "")
        Path(file).write_text("[node]\n[odd]\n")
        self.assertEqual(self.assertRaises(SystemExit, self.parse, "--config", file).code, EXIT_CONFIG)
        self.assertEqual(len(self.told.getvalue().splitlines()), 2, self.told.getvalue())

    def test_two_with_one_state(self) -> None:
        """Two files of one process with the same state directory are a fault of the configuration."""
        text = Path(config(self.directory, "a")).read_text()
        (self.directory / "b.toml").write_text(text.replace('"a"', '"b"'))
        self.assertEqual(self.assertRaises(SystemExit, self.parse, "--config", str(self.directory)).code, EXIT_CONFIG)
        self.assertIn("[node] state_dir", self.told.getvalue())

    def test_a_store_that_is_refused(self) -> None:
        """A file that is no database, and a token file that is not there, end the program with 78 and one line; nothing is overwritten."""
        state = self.directory / "g1"
        state.mkdir(mode=0o700)
        database = state / "tree.db"
        database.write_bytes(b"no database" * 1000)
        options = {"settings": [load(config(self.directory))]}
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, EXIT_CONFIG)
        self.assertIn(str(database), self.told.getvalue())
        self.assertEqual(database.read_bytes()[:11], b"no database")
        missing = str(self.directory / "none.token")
        tokens = f'listen = ["tcp:0:interface=127.0.0.1"]\n[[http.tokens]]\nname = "x"\nrole = "viewer"\ntoken_file = "{missing}"'
        options = {"settings": [load(config(self.directory, "g2", http=tokens))]}
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, EXIT_CONFIG)
        self.assertIn(missing, self.told.getvalue())


class ProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def run_until_it_ends(self, *files: str) -> tuple[int, str]:
        """Run nodes that cannot start: the exit code and what was written."""
        arguments = [argument for file in files for argument in ("--config", file)]
        command = [sys.executable, "-m", "twisted", "m2m", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_a_taken_port(self) -> None:
        """A taken UDP or TCP port ends the program at once, with 1 and one line that says whose, which and why."""
        for kind, table, lines, expected in (
            (
                socket.SOCK_DGRAM,
                "coap",
                'listen = ["127.0.0.1:PORT"]',
                "g1: [coap] cannot listen on 127.0.0.1:PORT: Address already in use",
            ),
            (socket.SOCK_STREAM, "http", 'listen = ["tcp:PORT:interface=127.0.0.1"]', "g1: [http] Couldn't listen on 127.0.0.1:PORT: "),
        ):
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.bind(("127.0.0.1", 0))
                if kind is socket.SOCK_STREAM:
                    taken.listen()
                port = str(taken.getsockname()[1])
                code, told = self.run_until_it_ends(config(self.directory, **{table: lines.replace("PORT", port)}))
                self.assertEqual(code, EXIT_CANNOT_START, told)
                self.assertIn(f"m2m: {expected.replace('PORT', port)}", told)

    def test_a_state_directory_in_use(self) -> None:
        """A second process on the same state directory is refused with 78, and the first goes on."""
        file = config(self.directory)
        command = [sys.executable, "-m", "twisted", "m2m", "--config", file]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
            try:
                token = self.directory / "g1" / "admin.token"
                end = time.monotonic() + 30
                while not token.exists() and time.monotonic() < end:
                    time.sleep(0.05)  # noqa: TID251 - it waits for another process
                code, told = self.run_until_it_ends(file)
                self.assertEqual(code, EXIT_CONFIG, told)
                self.assertIn("uses it", told)
                self.assertIsNone(first.poll())
            finally:
                first.terminate()
            self.assertIsNotNone(first.wait(30))
        self.assertEqual(json.dumps(told.count("m2m: ")), "1")


class OpenFilesTests(SynchronousTestCase):
    """The limit of open files, with one in place of the system's."""

    def setUp(self) -> None:
        self.hard, self.taken = 4_000, list[tuple[int, int]]()
        self.patch(resource, "getrlimit", lambda _: (1_024, self.hard))
        self.patch(resource, "setrlimit", lambda _, limits: self.taken.append(limits))
        self.told: list[str] = []

        def observe(event: LogEvent) -> None:
            self.told.append(formatEvent(event))

        globalLogPublisher.addObserver(cast(ILogObserver, observe))
        self.addCleanup(globalLogPublisher.removeObserver, cast(ILogObserver, observe))

    def test_as_many_as_allowed(self) -> None:
        """A process takes all that the system allows it, whatever it began with; where that will do, nothing is said."""
        wiring._have_files(self.hard // FILES_A_NODE)
        self.assertEqual((self.taken, self.told), ([(self.hard, self.hard)], []))

    def test_too_many_nodes(self) -> None:
        """Where the nodes may want more, the log says how many of how many, and what to do."""
        wiring._have_files(self.hard // FILES_A_NODE + 1)
        (line,) = self.told
        self.assertIn("501 nodes have about 4008 files open, and this process may have 4000", line)
        self.assertIn("LimitNOFILE=", line)
