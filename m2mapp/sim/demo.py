"""`python -m m2mapp.sim.demo`, which `make run` starts: a gateway and thirty simulated devices as real processes, with groups to try.

In namespaces the devices have nothing but power: the gateway gives them addresses, and bootstraps them. Needs no root. `M2MAPP_RUN` names
the directory that it keeps everything in (`./run`), `M2MAPP_NETWORK` the network (`auto`, `namespaces`, `loopback`). It only starts
programs and asks the gateway by HTTP, as anybody would; `network` makes the network, `files` the files.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from m2mapp.sim.files import ALL, DEVICES, NAMES, PATH, Layout, groups, write_files
from m2mapp.sim.network import Network, NetworkUnavailable, open_network, wish_of

HTTP_PORT = 8080
READY_TIMEOUT_S = 60.0
JOINED_TIMEOUT_S = 20.0
_REQUEST_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.2
_LOG_LINES = 15
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=", "m2m", "--config")
_CHILD = (sys.executable, "-m", "m2mapp.sim.child")


_CHAIN = """\
How a device came here: its address by DHCPv6, its bootstrap with each step, its registration
  curl -s {bearer} {where}/leases
  curl -s {bearer} {where}/devices/d1
  curl -s {bearer} {where}/scls/d1

"""


class DemoFailed(Exception):  # noqa: N818 - told to who started it
    """The demonstration cannot go on; says why."""


class _Stopped(Exception):  # noqa: N818 - not an error
    """Whoever started it has had enough."""


def say(text: str) -> None:
    """Tell who started it, at once."""
    print(text, flush=True)


def take_port(port: int = HTTP_PORT) -> socket.socket:
    """A listening socket on that port of 127.0.0.1, or on any other where it is taken, which is told."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if not port:
            raise DemoFailed(f"no TCP port of 127.0.0.1 can be used: {error}") from error
        say(f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): another one is taken")
        return take_port(0)
    return listener


@contextlib.contextmanager
def alone_in(layout: Layout) -> Iterator[None]:
    """Nobody else runs the demonstration in this directory meanwhile: it would write over the files. Raises `DemoFailed`, `OSError`."""
    layout.directory.mkdir(parents=True, exist_ok=True)
    with (layout.directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoFailed(f"another demonstration runs in {layout.directory}: stop it, or set M2MAPP_RUN to another place") from error
        yield


class Children:
    """The processes that were started, in their order."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, prefix: Sequence[str], file: Path, listen: int | None = None) -> None:
        """Start `twistd m2m` with a configuration, its output to its log. `prefix` leads into its network."""
        handed = () if listen is None else ("--listen", str(listen))
        command = [*prefix, *_CHILD, *handed, *_TWISTD, str(file)]
        with self._layout.log(name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the command is our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=() if listen is None else (listen,),
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )
        self._running.append((name, process))

    def check(self) -> None:
        """Nothing, while all run. Raises `DemoFailed` with the end of its log for one that does not."""
        for name, process in self._running:
            code = process.poll()
            if code is not None:
                lines = self._layout.log(name).read_text(errors="replace").splitlines()[-_LOG_LINES:]
                raise DemoFailed("\n".join([f"the process of the {name} ended by itself, with {code}; the end of its log:", *lines]))

    def stop(self) -> None:
        """Ask each to stop, the last first, and wait; one that does not in time is killed."""
        while self._running:
            name, process = self._running.pop()
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                say(f"the process of the {name} did not stop in {_STOP_TIMEOUT_S:g} s and is killed")
                process.kill()
                process.wait()


class Demo:
    """One run. `stopping` is set by who wants it to end."""

    def __init__(self, layout: Layout, network: Network, stopping: threading.Event) -> None:
        self._layout, self._network, self._stopping = layout, network, stopping
        self._children = Children(layout)
        self._port = 0

    def run(self, seconds: float | None) -> None:
        """Start everything, say what to try, and wait: for so many seconds, or to be stopped. Raises `DemoFailed`."""
        try:
            self._start()
            self._make_groups()
            self._say_what_to_try()
            self._wait(lambda: False, float("inf") if seconds is None else seconds)
        except _Stopped:
            pass
        finally:
            say("stopping")
            self._children.stop()

    def _start(self) -> None:
        with contextlib.closing(take_port()) as listener:
            self._port = listener.getsockname()[1]
            outside = self._network.outside
            endpoint = "systemd:domain=INET:index=0" if outside else f"tcp:{self._port}:interface=127.0.0.1"
            write_files(self._layout, self._network, endpoint)
            if not outside:
                listener.close()
            listen = listener.fileno() if outside else None
            self._children.start("gateway", self._network.in_gateway, self._layout.gateway_file, listen)
        if not self._wait(self._ready, READY_TIMEOUT_S):
            raise DemoFailed(f"the gateway was not ready after {READY_TIMEOUT_S:g} s; its log is {self._layout.log('gateway')}")
        self._children.start("devices", self._network.in_devices, self._layout.device_directory)
        say(f"the gateway is ready; waiting for {DEVICES} devices")
        if not self._wait(lambda: self._registered() >= DEVICES, READY_TIMEOUT_S):
            there, log = self._registered(), self._layout.log("devices")
            raise DemoFailed(f"only {there} of {DEVICES} devices had registered after {READY_TIMEOUT_S:g} s; their log is {log}")

    def _make_groups(self) -> None:
        for name, members in groups().items():
            status, answer = self._ask("POST", "/groups", {"name": name, "members": members})
            if status not in (http.client.CREATED, http.client.CONFLICT):  # CONFLICT: it is there from an earlier run
                raise DemoFailed(f"the group {name} could not be made: {status} {answer.decode(errors='replace')}")
        say("the groups are made; waiting until their members have joined")
        if not self._wait(self._joined, JOINED_TIMEOUT_S):
            say("some members have not joined yet: until they do they are asked one by one")

    def _say_what_to_try(self) -> None:
        where = f"http://127.0.0.1:{self._port}"
        bearer = f'-H "Authorization: Bearer {self._token()}"'
        say(
            f"""
gateway   {where}   ({DEVICES} devices, network: {self._network.kind}, everything is kept in {self._layout.directory})
token     {self._token()}   (from {self._layout.token_file})
pages     {where}/admin/   (sign in with the token{self._code()})

Read all {DEVICES} devices with one multicast datagram (thermometers only: /groups/{NAMES["temperature"]}):
  curl -s {bearer} {where}/groups/{ALL}/membersContent

Turn all switches on at once:
  curl -s -X PUT {bearer} -H "Content-Type: text/plain" -d on {where}/groups/{NAMES["switch"]}/membersContent

{_CHAIN.format(bearer=bearer, where=where) if self._network.prefix else ""}\
Watch the gateway's own thermometer (Ctrl-C ends it):
  curl -sN {bearer} -H "Accept: text/event-stream" {where}{PATH}

Ctrl-C here stops everything.
"""
        )

    # Asking the gateway.

    def _ready(self) -> bool:
        return self._try("GET", "/readyz")[0] == http.client.OK and self._layout.token_file.exists()

    def _registered(self) -> int:
        status, answer = self._try("GET", f"/scls?limit={2 * DEVICES}")
        return len(json.loads(answer)["children"]) if status == http.client.OK else 0

    def _joined(self) -> bool:
        answers = [self._try("GET", f"/groups/{name}") for name in groups()]
        return all(status == http.client.OK and json.loads(answer).get("state") == "ready" for status, answer in answers)

    def _token(self) -> str:
        return self._layout.token_file.read_text().strip()

    def _code(self) -> str:
        """How to make the first user, while there is none."""
        file = self._layout.code_file
        return f", or make the first user with the code {file.read_text().strip()}" if file.exists() else ""

    def _try(self, method: str, path: str) -> tuple[int, bytes]:
        """The answer; status 0 where there was none."""
        try:
            return self._ask(method, path)
        except (OSError, http.client.HTTPException):
            return 0, b""

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and payload of one request. Raises `OSError` or `HTTPException`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_REQUEST_TIMEOUT_S)
        headers = {"Accept": "application/json"}
        if self._layout.token_file.exists():
            headers["Authorization"] = f"Bearer {self._token()}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until it is done, and say whether it was in time. Raises `_Stopped`, and `DemoFailed` where a process ended."""
        until = time.monotonic() + seconds
        while True:
            if self._stopping.is_set():
                raise _Stopped
            self._children.check()
            if done():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._stopping.wait(min(left, _POLL_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration. 0 when it was stopped, or ran its time; 1 when it could not go on, which is told."""
    parser = argparse.ArgumentParser(prog="python -m m2mapp.sim.demo", description="A gateway and thirty simulated devices.")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds of running (default: at Ctrl-C)")
    options = parser.parse_args(arguments)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    layout = Layout(Path(os.environ.get("M2MAPP_RUN") or "run").resolve())
    try:
        with alone_in(layout), contextlib.closing(open_network(wish_of(os.environ), DEVICES, say)) as network:
            Demo(layout, network, stopping).run(options.seconds)
    except (DemoFailed, NetworkUnavailable, OSError, http.client.HTTPException) as failed:
        say(f"failed: {failed}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
