"""A real gateway process for benchmarks, on loopback, and what they do to it over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "m2m")
"""`twistd m2m` in the foreground."""
_START_S = 60.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_bytes(process: int) -> int:
    """The resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


class Gateway:
    """A gateway in a state directory of its own. `start_s` is the time from its start to its first answer on /readyz.

    `tables` is TOML that its configuration file has besides.
    """

    def __init__(self, state_dir: Path | None = None, program: Sequence[str] = (), tables: str = "") -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="m2mapp-bench-")
        self.dir = Path(self._scratch.name)
        self.state_dir = state_dir or self.dir / "state"
        self.port, self.coap_port = free_port(), free_port()
        self._program = tuple(program) or PROGRAM
        self._tables = tables
        self.start_s = 0.0
        self.token = ""

    def __enter__(self) -> Gateway:
        """Start it and wait until it is ready."""
        config = self.dir / "gateway.toml"
        config.write_text(
            f'[node]\nname = "g1.example.org"\nstate_dir = "{self.state_dir}"\n'
            f'[http]\nlisten = ["tcp:{self.port}:interface=127.0.0.1"]\n'
            f'[coap]\nlisten = ["127.0.0.1:{self.coap_port}"]\ninterfaces = ["lo"]\n'
            '[coap.access]\nread = ["link"]\nwrite = ["link"]\n[groups]\n'
            f"{self._tables}",
            encoding="utf-8",
        )
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        self._log = (self.dir / "log").open("wb")
        began = time.monotonic()
        command = [*self._program, "--config", str(config)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log)
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() - began > _START_S:
                self.process.kill()
                raise RuntimeError((self.dir / "log").read_text(encoding="utf-8"))
            time.sleep(0.01)
        self.start_s = time.monotonic() - began
        self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self._connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self._log.close()
            self._scratch.cleanup()

    @property
    def url(self) -> str:
        """Where its root is."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, document: object = None) -> bytes:
        """The body of the answer to a request; raises `RuntimeError` where it is no 2xx."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self._connection.request(method, path, None if document is None else json.dumps(document), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{method} {path}: {answer.status} {body[:300]!r}")
        return body

    def memory_bytes(self) -> int:
        """The process's resident memory."""
        return memory_bytes(self.process.pid)

    def _ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            self.token = (self.state_dir / "admin.token").read_text(encoding="ascii").strip()
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
