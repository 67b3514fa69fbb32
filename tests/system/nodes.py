"""Whole programs for tests: sites of gateways and devices, each a `twistd m2m` process with a configuration, a log and its answers.

    with Site() as site:
        gateway = site.gateway("gw", ["fd00:1::1/64"])
        devices = site.devices("devices", numbers=range(1, 31))
        site.ready()
        gateway.put_document("/groups/all", {"members": [...]})

Responsible for starting and ending them and for talking to them; where the body of the `with` fails, the ends of all logs are printed.
Not responsible for networks (`namespaces`), nor for what is expected of the programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.system.http_calls import Caller, Reply
from tests.system.namespaces import Host, Lab, wait_until
from tests.system.programs import START_S, Here, Place, Program, Tables, free_port, tail, write_config

SMOKE = os.environ.get("M2MAPP_SMOKE") == "1"
"""Whether the counts are to be small (`make test`)."""


class Gateway(Program):
    """A node with HTTP on the loopback of its place."""

    def __init__(self, place: Place, folder: Path, name: str, tables: Tables, port: int = 8080) -> None:
        self.state_dir, self.port = folder / f"{name}-state", port
        self.state_seen = self.state_dir
        """The state directory as this process sees it, where that is another path than the gateway's."""
        whole: Tables = {
            "node": {"name": f"{name}.example.org", "state_dir": str(self.state_dir)},
            "http": {"listen": [f"tcp:{port}:interface=127.0.0.1"]},
            **tables,
        }
        super().__init__(place, folder, name, write_config(folder / f"{name}.toml", whole))

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.state_seen / "admin.token").read_text().strip()

    def ready(self) -> None:
        """Wait until `/readyz` says that it is ready for work."""
        super().ready()
        wait_until(self._is_ready, START_S, f"{self.name} to be ready")

    def _is_ready(self) -> bool:
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

    def __init__(
        self, place: Place, folder: Path, name: str, devices: Sequence[Device], more: Callable[[Device], Tables] | None = None
    ) -> None:
        """`more`: further tables of a device's configuration."""
        self.devices = tuple(devices)
        files = folder / f"{name}.d"
        files.mkdir()
        for device in devices:
            tables: Tables = {
                "node": {"name": device.host, "state_dir": str(folder / f"{name}-{device.name}-state")},
                "coap": {"listen": [f"[{device.address}]:5683"], "interfaces": ["eth0"]},
                "coap.access": {"write": ["link"]},
                "member": {},
                **(more(device) if more is not None else {}),
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
            try:
                self.lab = self._stack.enter_context(Lab())
            except BaseException:
                self._stack.close()
                raise
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

    def host(self, name: str, addresses: Iterable[str]) -> Host:
        """A new host on the site's link."""
        host = self._hosts[name] = self.lab.host(name, addresses)
        return host

    def host_on(self, link: str, name: str, addresses: Iterable[str]) -> Host:
        """A new host on a link of its own choice."""
        host = self._hosts[name] = self.lab.host(name, addresses, link)
        return host

    def add(self, program: Program) -> None:
        """The program's log is shown where the body of the `with` fails."""
        self._programs.append(program)
        self._stack.callback(program.close)

    def gateway(self, name: str, addresses: Iterable[str] = (), tables: Tables | None = None) -> Gateway:
        """A gateway in a host of its own with those addresses; by default one that groups the devices there. It is starting."""
        gateway = Gateway(self.host(name, addresses), self.folder, name, GROUP_SERVER if tables is None else tables)
        self.add(gateway)
        gateway.start(wait=False)
        return gateway

    def gateway_here(self, name: str, tables: Tables | None = None) -> Gateway:
        """A gateway on this machine's loopback, by HTTP only where no tables are given; not started."""
        gateway = Gateway(self.here, self.folder, name, tables or {}, free_port())
        self.add(gateway)
        return gateway

    def devices(self, name: str, numbers: Iterable[int], prefix: str = "fd00:1::1") -> Devices:
        """Member nodes `d<number>` in one host and one process, which is starting; addresses end in the number."""
        found = [Device(f"d{number}", f"{prefix}{number:02x}") for number in numbers]
        host = self.host(name, [f"{device.address}/64" for device in found])
        devices = Devices(host, self.folder, name, found)
        self.add(devices)
        devices.start(wait=False)
        return devices

    def ready(self) -> None:
        """Wait until all that are starting are up: they start at the same time."""
        for program in self._programs:
            program.ready()


GROUP_SERVER: Tables = {"coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]}, "groups": {}}
"""A gateway that groups the devices on `eth0`."""
