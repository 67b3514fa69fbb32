"""Processes of `twistd m2m` in tests: where they run, how they are started, watched, stopped and killed.

Responsible for any node whatever it is configured to be. Not responsible for what it is asked (`http_calls`, `libcoap`,
`aiocoap_calls`), nor for the usual nodes of tests (`nodes`).
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.system.namespaces import start_program, wait_until

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

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
    """This machine as it is: for tests that need no more than its loopback, and so no root."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []

    def run(self, command: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; whatever its exit code. Raises `TimeoutExpired`."""
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program that is killed by `end_processes`."""
        process = start_program(command, env, cwd, log)
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
        self.start_s = START_S
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

    def command(self) -> list[str]:
        """What is run."""
        return twistd("--config", str(self.config))

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when it is ready, or at once."""
        self.close()
        self._notify_file.unlink(missing_ok=True)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self._notify_file))
        self._told.setblocking(False)
        self._notify_file.chmod(0o777)
        self._process = self.place.popen(
            self.command(),
            env={**environment(), "NOTIFY_SOCKET": str(self._notify_file)},
            cwd=self._folder,
            log=self.log_file,
        )
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until it tells the service manager that it is ready. Raises `NotReadyError` where it ends before."""
        wait_until(self._is_up, self.start_s, f"READY=1 of {self.name}")

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


def environment() -> dict[str, str]:
    """What a program of this checkout needs in its environment; it works with and without an installation."""
    return {"PYTHONPATH": str(ROOT)}


def twistd(*arguments: str) -> list[str]:
    """The command of `twistd m2m` in the foreground, from this checkout."""
    return [sys.executable, "-c", _LAUNCH, "--nodaemon", "--pidfile=", "m2m", *arguments]


def tail(text: str, lines: int = _LOG_SHOWN_LINES) -> str:
    """The last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])
