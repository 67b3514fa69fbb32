"""Whole programs for tests: sites of gateways and devices, each a `twistd m2m` process with a configuration, a log and its answers.

    with Site() as site:
        gateway = site.gateway("gw", ["fd00:1::1/64"])
        devices = site.devices("devices", numbers=range(1, 31))
        gateway.put_document("/groups/all", {"members": [...]})

Responsible for starting and ending them and for talking to them; where the body of the `with` fails, the ends of all logs are printed.
Not responsible for networks (`namespaces`), nor for what is expected of the programs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from tests.system.namespaces import Host, Lab, wait_until

ROOT = Path(__file__).resolve().parents[2]
SMOKE = os.environ.get("M2MAPP_SMOKE") == "1"
"""Whether the counts are to be small (`make test`)."""

STOPPED = (0, -signal.SIGTERM)
"""The exit codes of an orderly stop: `twistd` ends by the signal that it was sent, once all is done, so that its parent sees why."""

START_S = 60.0
"""So long a program may take to start, or to end, before a test gives up: plenty for a machine that has more to do."""
_LOG_SHOWN_LINES = 60
_LAUNCH = "import ctypes; ctypes.CDLL(None).prctl(1, 9); from twisted.scripts.twistd import run; run()"
"""`twistd`, which ends with the process that started it (PR_SET_PDEATHSIG): nothing is left of a test run that was killed."""

Tables = Mapping[str, Mapping[str, object]]
"""A configuration: tables by name, values by key."""


class Place(Protocol):
    """Where programs run: a `namespaces.Host`, or `Here`."""

    def run(self, command: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program; its output goes to `log`."""

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Within this, sockets that the calling thread opens are in the place."""


class Here:
    """This machine as it is: for tests that need no more than its loopback, and so no root. A command prefix may go before programs."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)
        self._processes: list[subprocess.Popen[str]] = []

    def run(self, command: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; whatever its exit code. Raises `TimeoutExpired`."""
        whole = [*self._prefix, *command]
        return subprocess.run(whole, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program that is killed by `end_processes`."""
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("a")) if log is not None else subprocess.DEVNULL
            process = subprocess.Popen(
                [*self._prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Nothing is to be entered."""
        yield

    def end_processes(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(file: Path, tables: Tables) -> Path:
    """Write a configuration file; texts, numbers, lists and truth values are the same in TOML as in JSON."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
    file.write_text("\n".join(lines))
    return file


class NotReadyError(Exception):
    """A program ended, or did not get ready; says what its log says."""


class Program:
    """One `twistd m2m` process, which can be started again and again. It says by `sd_notify` when it is up."""

    def __init__(self, place: Place, folder: Path, name: str, config: Path) -> None:
        self.place, self.name, self.config = place, name, config
        self.log_file = folder / f"{name}.log"
        self._folder = folder
        self._notify_file = folder / f"{name}.notify"
        self._told: socket.socket | None = None
        self._notices: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process that was started last."""
        if self._process is None:
            raise LookupError(f"{self.name} was not started")
        return self._process

    @property
    def log(self) -> str:
        """What it has printed so far, in all its runs."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when it says that it is ready. Raises `NotReadyError` where it ends before."""
        self.close()
        self._notify_file.unlink(missing_ok=True)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self._notify_file))
        self._told.setblocking(False)
        self._notify_file.chmod(0o777)
        self._process = self.place.popen(
            twistd("--config", str(self.config)),
            env={**environment(), "NOTIFY_SOCKET": str(self._notify_file)},
            cwd=self._folder,
            log=self.log_file,
        )
        if wait:
            wait_until(self._is_up, START_S, f"READY=1 of {self.name}")

    @property
    def notices(self) -> list[str]:
        """What it has told the service manager since it was started last (sd_notify), in order."""
        with contextlib.suppress(BlockingIOError):
            while self._told is not None:
                self._notices.append(self._told.recv(4096).decode())
        return self._notices

    def close(self) -> None:
        """Listen to it no more."""
        self._notices = []
        if self._told is not None:
            self._told.close()
            self._told = None

    def check_running(self) -> None:
        """Raises `NotReadyError` if it has ended."""
        if self.process.poll() is not None:
            raise NotReadyError(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")

    def _is_up(self) -> bool:
        self.check_running()
        return "READY=1" in self.notices

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.process.kill()
        self.process.wait(START_S)

    def stop(self) -> int:
        """Ask it to end (SIGTERM); its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        try:
            return self.process.wait(START_S)
        except subprocess.TimeoutExpired as expired:
            raise NotReadyError(f"{self.name} did not end:\n{tail(self.log)}") from expired


@dataclass(frozen=True)
class Reply:
    """What an HTTP request got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict), value
        return value


class Caller:
    """One HTTP connection from within a place, kept open while the server does. Raises `OSError` or `http.client.HTTPException`."""

    def __init__(self, place: Place, address: str, port: int, token: str = "", timeout_s: float = START_S) -> None:
        self._connection = _Connection(place, address, port, timeout_s)
        self._fields = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def request(
        self, method: str, path: str, body: bytes | str | None = None, content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and read its answer."""
        fields = {**self._fields, **({"Content-Type": content_type} if content_type else {}), **(headers or {})}
        self._connection.request(method, path, body.encode() if isinstance(body, str) else body, fields)
        answer = self._connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, place: Place, address: str, port: int, timeout_s: float) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._place = place

    def connect(self) -> None:
        """Connect within the place."""
        with self._place.entered():
            super().connect()


class Gateway(Program):
    """A node with HTTP on the loopback of its place."""

    def __init__(self, place: Place, folder: Path, name: str, tables: Tables, port: int = 8080) -> None:
        self.state_dir, self.port = folder / f"{name}-state", port
        self.state_seen = self.state_dir
        """The state directory as this process sees it, where that is another path than the gateway's."""
        whole = {
            "node": {"name": f"{name}.example.org", "state_dir": str(self.state_dir)},
            "http": {"listen": [f"tcp:{port}:interface=127.0.0.1"]},
            **tables,
        }
        super().__init__(place, folder, name, write_config(folder / f"{name}.toml", whole))

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.state_seen / "admin.token").read_text().strip()

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when `/readyz` says that it is ready for work."""
        super().start(wait=wait)
        if wait:
            wait_until(self._ready, START_S, f"{self.name} to be ready")

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/readyz").status == 200
        except ConnectionRefusedError:
            self.check_running()
            return False

    def caller(self, timeout_s: float = START_S) -> Caller:
        """A connection to it, with the administrator's token."""
        return Caller(self.place, "127.0.0.1", self.port, self.token, timeout_s)

    def request(
        self, method: str, path: str, body: bytes | str | None = None, content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        with self.caller() as caller:
            return caller.request(method, path, body, content_type, headers)

    def get(self, path: str, **headers: str) -> Reply:
        """GET; header names with `_` for `-`."""
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def put(self, path: str, content: str | bytes, content_type: str = "text/plain") -> Reply:
        """PUT of content; anything but success is an `AssertionError`."""
        reply = self.request("PUT", path, content, content_type)
        assert reply.status in (200, 201, 204), f"PUT {path}: {reply}"
        return reply

    def put_document(self, path: str, document: Mapping[str, object]) -> Reply:
        """PUT of a JSON document; anything but success is an `AssertionError`."""
        return self.put(path, json.dumps(document), "application/json")

    def metric(self, name: str) -> float:
        """The value of one metric without labels."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        assert found is not None, f"there is no metric {name}"
        return float(found[1])

    def curl(self, path: str, *arguments: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `curl` in its place, for one path of this gateway; with the administrator's token."""
        sign_in = ["-H", f"Authorization: Bearer {self.token}"] if token else []
        uri = f"http://127.0.0.1:{self.port}{path}"
        return self.place.run(["curl", "--silent", "--show-error", "--max-time", "60", *sign_in, *arguments, uri])


@dataclass(frozen=True)
class Device:
    """One member node: its endpoint name, its host name, its address."""

    name: str
    address: str

    @property
    def host(self) -> str:
        """The name in its URIs."""
        return f"{self.name}.example.org"

    @property
    def registration(self) -> dict[str, object]:
        """The document of `PUT /scls/<name>`."""
        return {"hosts": [self.host], "addresses": [self.address], "multicastEnabled": True, "lifetime": 86_400}

    def uri(self, path: str) -> str:
        """The URI of one of its resources, by its name."""
        return f"coap://{self.host}{path}"


class Devices(Program):
    """Member nodes in one process, each with an address of its own. Neighbours may write to them, as test programs do."""

    def __init__(self, place: Place, folder: Path, name: str, devices: Sequence[Device]) -> None:
        self.devices = tuple(devices)
        files = folder / f"{name}.d"
        files.mkdir()
        for device in devices:
            tables: Tables = {
                "node": {"name": device.host, "state_dir": str(folder / f"{name}-{device.name}-state")},
                "coap": {"listen": [f"[{device.address}]:5683"], "interfaces": ["eth0"]},
                "coap.access": {"write": ["link"]},
                "member": {},
            }
            write_config(files / f"{device.name}.toml", tables)
        super().__init__(place, folder, name, files)


class Site:
    """A folder, a lab where network namespaces are wanted, and the programs in them. Use it in a `with`."""

    def __init__(self, *, namespaces: bool = True) -> None:
        self._stack = contextlib.ExitStack()
        self._namespaces = namespaces
        self._programs: list[Program] = []
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> Site:
        # Short, since the names of UNIX sockets are; not in the working directory, which may be on a slow disk.
        self.folder = Path(tempfile.mkdtemp(prefix="m2m-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.here = Here()
        self._stack.callback(self.here.end_processes)
        if self._namespaces:
            self.lab = self._stack.enter_context(Lab())
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            if kind is not None:
                for program in self._programs:
                    print(f"--- the end of {program.log_file.name}:\n{tail(program.log)}")
        finally:
            self._stack.close()

    def lab_host(self, name: str) -> Host:
        """The host of that name, which `gateway` or `devices` made."""
        return self._hosts[name]

    def enter(self, context: contextlib.AbstractContextManager[object]) -> None:
        """Enter a context that is left with the site, before what was entered before it."""
        self._stack.enter_context(context)

    def host(self, name: str, addresses: Iterable[str]) -> Host:
        """A new host on the site's link."""
        host = self._hosts[name] = self.lab.host(name, addresses)
        return host

    def add(self, program: Program) -> None:
        """The program's log is shown where the body of the `with` fails."""
        self._programs.append(program)
        self._stack.callback(program.close)

    def gateway(self, name: str, addresses: Iterable[str] = (), tables: Tables | None = None) -> Gateway:
        """A gateway that is started, in a host of its own with those addresses; by default one that groups the devices there."""
        gateway = Gateway(self.host(name, addresses), self.folder, name, GROUP_SERVER if tables is None else tables)
        self.add(gateway)
        gateway.start()
        return gateway

    def gateway_here(self, name: str, tables: Tables | None = None) -> Gateway:
        """A gateway on this machine's loopback, by HTTP only where no tables are given; not started."""
        gateway = Gateway(self.here, self.folder, name, tables or {}, free_port())
        self.add(gateway)
        return gateway

    def devices(self, name: str, numbers: Iterable[int], prefix: str = "fd00:1::1") -> Devices:
        """Member nodes `d<number>` that are started, in one host and one process; addresses end in the number."""
        found = [Device(f"d{number}", f"{prefix}{number:02x}") for number in numbers]
        host = self.host(name, [f"{device.address}/64" for device in found])
        devices = Devices(host, self.folder, name, found)
        self.add(devices)
        devices.start()
        return devices


GROUP_SERVER: Tables = {"coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]}, "groups": {}}
"""A gateway that groups the devices on `eth0`."""


@dataclass(frozen=True)
class CoapReply:
    """What `coap-client-notls` got: the code of the last response, its options as the program words them, the payload."""

    code: str
    options: str
    payload: bytes

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()


def coap_client(host: Host, method: str, uri: str, *arguments: str, payload: bytes | str = b"", wait_s: int = 20) -> CoapReply:
    """Run libcoap's client. A payload of any size goes block-wise as the program does it. No answer is an `AssertionError`."""
    with tempfile.TemporaryDirectory(prefix="m2m-") as folder:
        given, got = Path(folder, "given"), Path(folder, "got")
        given.write_bytes(payload.encode() if isinstance(payload, str) else payload)
        sent = ["-f", str(given)] if payload else []
        command = ["coap-client-notls", "-v", "7", "-B", str(wait_s), "-m", method, "-o", str(got), *sent, *arguments, uri]
        done = host.run(command, timeout_s=wait_s + 30)
        answers = re.findall(r"^v:1 t:\w+ c:([245]\.\d\d) i:\w+ \{\w*\} \[ (.*?) ?\](?: ::.*)?$", done.stdout, re.MULTILINE)
        assert answers, f"no answer: {' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        code, options = answers[-1]
        body = got.read_bytes() if got.exists() else b""
        return CoapReply(code, options, body if code.startswith("2") else done.stderr.encode())


def environment() -> dict[str, str]:
    """What a program of this checkout needs in its environment; it works with and without an installation."""
    return {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def twistd(*arguments: str) -> list[str]:
    """The command of `twistd m2m` in the foreground, from this checkout."""
    return [sys.executable, "-c", _LAUNCH, "--nodaemon", "--pidfile=", "m2m", *arguments]


def tail(text: str, lines: int = _LOG_SHOWN_LINES) -> str:
    """The last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])
