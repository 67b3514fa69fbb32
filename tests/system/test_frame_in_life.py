"""The program as who runs it meets it: start, stop, `--check`, refusals, the token file, event streams across a restart."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.namespaces import wait_until
from tests.system.nodes import Gateway, Site
from tests.system.programs import STOPPED, environment, twistd, write_config

_REFUSED = 78
_DATABASE = "tree.db"
_SKIP = None if shutil.which("curl") else "not installed: curl"


def _run(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `twistd m2m` to its end."""
    words = [f"{name}={value}" for name, value in environment().items()]
    return site.here.run(["env", f"--chdir={site.folder}", *words, *twistd(*arguments)])


class StopTests(SynchronousTestCase):
    skip = _SKIP

    def test_stop_under_writes(self) -> None:
        """SIGTERM while writes are under way: an orderly end, the service manager is told, and every answered write is there."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            answered: list[str] = []
            begun = threading.Event()

            def write(number: int) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException), gateway.caller() as caller:
                    for step in range(100_000):
                        path = f"/w/{number}-{step}"
                        reply = caller.request("PUT", path, path, "text/plain")
                        if reply.status != 201:
                            return
                        answered.append(path)
                        if reply.headers.get("connection") == "close":
                            return
                        if step == 20:
                            begun.set()

            writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
            for writer in writers:
                writer.start()
            self.assertTrue(begun.wait(60))
            self.assertIn(gateway.stop(), STOPPED, gateway.log)
            for writer in writers:
                writer.join(60)
                self.assertFalse(writer.is_alive())
            self.assertEqual([notice for notice in gateway.notices if "=1" in notice], ["READY=1", "STOPPING=1"])
            self.assertIn("Server Shut Down", gateway.log)
            self.assertNotIn("Traceback", gateway.log)
            gateway.start()
            with gateway.caller() as caller:
                self.assertEqual([path for path in answered if caller.request("GET", path).body.decode() != path], [])

    def test_stop_with_open_connections(self) -> None:
        """Idle connections and an event stream do not keep the program from ending: the stream ends, so that its reader comes back."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            gateway.put("/a", "1")
            with gateway.caller() as idle, _stream(gateway, "/a") as stream:
                self.assertEqual(idle.request("GET", "/a").status, 200)
                stream.until(lambda text: "id:" in text)
                self.assertIn(gateway.stop(), STOPPED, gateway.log)
                self.assertEqual(stream.process.wait(60), 0)

    def test_interrupt(self) -> None:
        """Ctrl-C ends it as SIGTERM does."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            gateway.signal(signal.SIGINT)
            self.assertIn(gateway.wait(), (0, -signal.SIGINT))
            self.assertIn("Server Shut Down", gateway.log)


class CheckTests(SynchronousTestCase):
    def test_good(self) -> None:
        """`--check` of a good file exits with 0, says nothing, and makes nothing."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            done = _run(site, "--check", "--config", str(gateway.config))
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
            self.assertFalse(gateway.state_dir.exists())

    def test_every_fault(self) -> None:
        """Each fault of each file is told at once, with file, table and key; the exit code is 78, with and without `--check`."""
        with Site(namespaces=False) as site:
            folder = site.folder / "conf.d"
            folder.mkdir()
            node = {"name": "g1.example.org", "state_dir": str(site.folder / "state")}
            one = write_config(
                folder / "one.toml",
                {"node": {**node, "colour": "red"}, "http": {"listen": ["tcp:x"]}, "coap": {"listen": ["here"]}, "cake": {}},
            )
            two = write_config(folder / "two.toml", {"node": {"name": "no name"}, "groups": {"deadline_s": -1}})
            three = folder / "three.toml"
            three.write_text("[node\n")
            wrong: dict[str, dict[str, object]] = {"sim": {"model": "cake", "registrar": 5}, "peers.n1": {"uri": 5}, "member": {}}
            four = write_config(folder / "four.toml", {"node": node, **wrong})
            for arguments in (["--check"], []):
                done = _run(site, *arguments, "--config", str(folder))
                self.assertEqual(done.returncode, _REFUSED, done)
                for file, words in (
                    (one, ["[node] colour"]),
                    (one, ["[http] listen", "tcp:x"]),
                    (one, ["[coap] listen", "here"]),
                    (one, ["[cake]"]),
                    (two, ["[node] name", "no name"]),
                    (two, ["[groups] deadline_s", "-1"]),
                    (three, ["is not TOML"]),
                    (four, ["[sim] model", "cake"]),
                    (four, ["[sim] registrar", "5"]),
                    (four, ["[peers.n1] uri", "5"]),
                ):
                    lines = [line for line in done.stderr.splitlines() if str(file) in line and all(word in line for word in words)]
                    self.assertEqual(len(lines), 1, f"{file} {words}: {done.stderr}")
            self.assertFalse((site.folder / "state").exists())

    def test_no_file(self) -> None:
        """A file that is not there, and a directory with none, are told so."""
        with Site(namespaces=False) as site:
            for place in ("absent.toml", "."):
                done = _run(site, "--check", "--config", str(site.folder / place))
                self.assertEqual(done.returncode, _REFUSED)
                self.assertIn(str(site.folder), done.stderr)
                self.assertNotIn("Traceback", done.stderr)


class RefusalTests(SynchronousTestCase):
    def test_second_process(self) -> None:
        """A second process on the same state directory is refused with 78 and told who has it; the first goes on."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            done = _run(site, "--config", str(gateway.config))
            self.assertEqual(done.returncode, _REFUSED, done)
            self.assertIn(str(gateway.state_dir), done.stderr)
            self.assertIn(f"process {gateway.process.pid}", done.stderr)
            gateway.put("/a", "1")
            gateway.kill()
            gateway.start()
            self.assertEqual(gateway.get("/a").body, b"1")

    def check_refused(self, site: Site, gateway: Gateway, word: str) -> None:
        """The program does not start, says why, and leaves the state directory as it is."""
        before = _content(gateway.state_dir)
        done = _run(site, "--config", str(gateway.config))
        self.assertEqual(done.returncode, _REFUSED, done)
        self.assertIn(word, done.stderr)
        self.assertIn(str(gateway.state_dir), done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(_content(gateway.state_dir), before)

    def test_damaged_database(self) -> None:
        """A database that is overwritten in the middle, or is none, is refused and not touched; put back, it serves again."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            with gateway.caller() as caller:
                for number in range(200):
                    self.assertEqual(caller.request("PUT", f"/w/{number}", "x" * 500, "text/plain").status, 201)
            self.assertIn(gateway.stop(), STOPPED)
            database = gateway.state_dir / _DATABASE
            whole = database.read_bytes()
            for damaged, word in (
                (whole[:8192] + bytes(len(whole) - 8192), "damaged"),
                (b"not a database at all", "not a database"),
            ):
                database.write_bytes(damaged)
                self.check_refused(site, gateway, word)
            database.write_bytes(whole)
            gateway.start()
            self.assertEqual(gateway.get("/w/199").body, b"x" * 500)

    def test_port_taken(self) -> None:
        """A port that another program has ends the start at once, with the address in the log; nothing looks as if it ran."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            with socket.create_server(("127.0.0.1", gateway.port)):
                gateway.start(wait=False)
                self.assertNotEqual(gateway.wait(), 0)
            self.assertIn(str(gateway.port), gateway.log)
            self.assertNotIn("READY=1", gateway.notices)
            gateway.start()


class TokenTests(SynchronousTestCase):
    skip = _SKIP

    def test_admin_token(self) -> None:
        """The first start makes a token that only its owner can read; it stays over a restart, and is closed again if it was opened."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            file = gateway.state_dir / "admin.token"
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(gateway.state_dir.stat().st_mode), 0o700)
            token = gateway.token
            self.assertGreaterEqual(len(token), 40)
            self.assertEqual(gateway.curl("/node", "-o", "/dev/null", "-w", "%{http_code}", token=False).stdout, "401")
            self.assertIn(gateway.stop(), STOPPED)
            file.chmod(0o644)
            gateway.start()
            self.assertEqual((gateway.token, stat.S_IMODE(file.stat().st_mode)), (token, 0o600))
            self.assertNotIn(token, gateway.log)

    def test_bad_token_file(self) -> None:
        """A token file that holds none is refused, and told by its name, not by its content."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.state_dir.mkdir()
            (gateway.state_dir / "admin.token").write_text("secret\n")
            done = _run(site, "--config", str(gateway.config))
            self.assertEqual(done.returncode, _REFUSED, done)
            self.assertIn("admin.token", done.stderr)
            self.assertNotIn("secret", done.stderr)


class _Stream:
    """An event stream that curl reads."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self.process, self._file = process, file

    @property
    def events(self) -> list[tuple[int, str, dict[str, object]]]:
        """The whole events so far: number, name, data."""
        found = []
        for block in self._file.read_text().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return found

    @property
    def contents(self) -> list[object]:
        """What each event says was written."""
        return [data["content"] for _, _, data in self.events]

    def until(self, reached: Callable[[str], bool]) -> None:
        """Wait until what was read is so."""
        wait_until(lambda: reached(self._file.read_text()), 60, "the event stream")


@contextlib.contextmanager
def _stream(gateway: Gateway, path: str, last_event_id: int | None = None) -> Iterator[_Stream]:
    """An event stream, which curl reads while this lasts."""
    file = gateway.config.with_suffix(f".{path.replace('/', '-').replace('?', '-')}-{last_event_id}.events")
    resume = [] if last_event_id is None else ["-H", f"Last-Event-ID: {last_event_id}"]
    head = ["-H", f"Authorization: Bearer {gateway.token}", "-H", "Accept: text/event-stream"]
    process = gateway.place.popen(["curl", "-sN", *head, *resume, f"http://127.0.0.1:{gateway.port}{path}"], log=file)
    try:
        yield _Stream(process, file)
    finally:
        process.kill()
        process.wait()


class EventStreamTests(SynchronousTestCase):
    skip = _SKIP

    def test_resumed_after_restart(self) -> None:
        """A reader that comes back with its Last-Event-ID, after changes and a `kill -9`, gets what it missed and goes on live."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            gateway.put("/room/t", "0")
            with _stream(gateway, "/room/t") as stream:
                stream.until(lambda text: "id:" in text)
                for number in (1, 2, 3):
                    gateway.put("/room/t", str(number))
                wait_until(lambda: len(stream.events) == 3, 60, "three events")
            self.assertEqual(stream.contents, ["1", "2", "3"])
            last = stream.events[-1][0]
            gateway.put("/room/t", "4")
            gateway.put("/room/other", "x")
            gateway.kill()
            gateway.start()
            gateway.put("/room/t", "5")
            with _stream(gateway, "/room/t", last) as stream, _stream(gateway, "/room?subtree", last) as below:
                wait_until(lambda: len(stream.events) == 2 and len(below.events) == 3, 60, "what was missed")
                gateway.put("/room/t", "6")
                wait_until(lambda: len(stream.events) == 3 and len(below.events) == 4, 60, "the next event")
            self.assertEqual(stream.contents, ["4", "5", "6"])
            self.assertEqual(below.contents, ["4", "x", "5", "6"])
            numbers = [number for number, _, _ in below.events]
            self.assertEqual(numbers, sorted(set(numbers)))

    def test_unknown_position(self) -> None:
        """A position that this tree never had gives `event: reset`: read again."""
        with Site(namespaces=False) as site:
            gateway = site.gateway_here("gw")
            gateway.start()
            gateway.put("/a", "1")
            with _stream(gateway, "/a", 10**9) as stream:
                wait_until(lambda: stream.events, 60, "the reset")
            self.assertEqual([name for _, name, _ in stream.events], ["reset"])


def _content(folder: Path) -> dict[str, str]:
    """What may not change where a start is refused: the files, but the lock, which says who tried last, and what SQLite keeps beside."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if not file.name.endswith(("lock", "-wal", "-shm"))
    }
