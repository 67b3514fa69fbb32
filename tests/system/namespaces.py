"""Networks for tests: hosts that are network namespaces, joined by bridges, in which whole programs run.

    with Lab() as lab:
        gateway = lab.host("gw", ["fd00:1::1/64"])
        devices = lab.host("devices", [f"fd00:1::{number:x}/64" for number in range(0xD1, 0xEF)])
        server = gateway.popen(["twistd", "-n", "m2m", "--config", path])
        with devices.capture("udp port 5683") as capture:
            gateway.run(["coap-client-notls", "coap://[fd00:1::d1]/temperature"])
        print(capture.lines)

Responsible for making and removing them: whatever a test does, at the end of the `with` all processes that were started in the
hosts are ended and the namespaces are gone; those of a test run that was killed are removed by the next one. Not responsible for
what runs inside. Root is needed: `skip_reason` says what is missing.

All names carry this process's number, so that runs at the same time do not meet. Addresses can be used at
once (no duplicate address detection). Bridges do not snoop MLD and IGMP: every host sees every group, as on a plain link.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_NAMES = itertools.count(1)
_WHERE = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_TOOLS = ("ip", "nsenter", "sysctl")
_SETTINGS = (
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv6.conf.default.dad_transmits=0",
    "net.ipv6.conf.default.router_solicitations=0",
)
_LAST_PACKET = "ff02::6d32:6d"
"""No program is a member; captures leave packets to it out."""

_LARGEST_CAPTURE_BYTES = 64 * 1024 * 1024
END_S = 5.0
"""So long a process has between being asked to end and being killed."""


def skip_reason(*programs: str) -> str | None:
    """Why namespaces, or one of the programs named, cannot be used here; None if they can. For `case.skip` or `SkipTest`."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in (*_TOOLS, *programs) if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return _kernel_lacks()


def _kernel_lacks() -> str | None:
    name = f"m2m-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    lines = "link add name bridge0 type bridge\nlink add name veth0 type veth peer name veth1\n"
    probe = subprocess.run(["ip", "-n", name, "-batch", "-"], input=lines, capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"no bridges or veth pairs here: {probe.stderr.strip()}" if probe.returncode else None


class LabError(Exception):
    """A command that builds the lab failed: the lab, not the test, is at fault."""


def _do(command: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}\n{text or ''}")
    return done.stdout


class Lab:
    """One network of hosts and links. Use it in a `with`."""

    def __init__(self) -> None:
        remove_left_overs()
        self._prefix = f"m2m-{os.getpid()}-{next(_NAMES)}"
        self._hosts: dict[str, Host] = {}
        self._links: dict[str, None] = {}
        self._veths = itertools.count(1)
        self._hub = f"{self._prefix}-hub"

    def __enter__(self) -> Lab:
        self._add(self._hub)
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            for host in self._hosts.values():
                host.end_processes()
        finally:
            for namespace in [*(host.namespace for host in self._hosts.values()), self._hub]:
                _remove(namespace)

    def host(self, name: str, addresses: Iterable[str] = (), link: str = "lan", interface: str = "eth0") -> Host:
        """A new host with one interface on a link (made when it is first named), which has the addresses ("fd00:1::1/64")."""
        if name in self._hosts:
            raise LabError(f"there is a host {name!r} already")
        namespace = f"{self._prefix}-{name}"
        self._add(namespace)
        host = self._hosts[name] = Host(self, name, namespace)
        host.connect(link, addresses, interface)
        return host

    def attach(self, namespace: str, interface: str, link: str) -> None:
        """Put an interface into a namespace whose other end is a port of the link's bridge."""
        lines = [] if link in self._links else [f"link add name {link} type bridge mcast_snooping 0", f"link set dev {link} up"]
        self._links[link] = None
        port = f"port{next(self._veths)}"
        lines += [
            f"link add name {port} type veth peer name {interface} netns {namespace}",
            f"link set dev {port} master {link}",
            f"link set dev {port} up",
        ]
        _do(["ip", "-n", self._hub, "-batch", "-"], "\n".join(lines) + "\n")

    def _add(self, namespace: str) -> None:
        _do(["ip", "netns", "add", namespace])
        _do([*_inside(namespace), "sysctl", "-q", *_SETTINGS])
        _do(["ip", "-n", namespace, "link", "set", "lo", "up"])


class Host:
    """One namespace. Made by `Lab.host`."""

    def __init__(self, lab: Lab, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._lab = lab
        self._processes: list[subprocess.Popen[str]] = []

    def connect(self, link: str, addresses: Iterable[str] = (), interface: str = "eth0") -> None:
        """One interface more, on a link, with addresses."""
        self._lab.attach(self.namespace, interface, link)
        self._ip_batch([f"link set dev {interface} up", *(_address_line("add", address, interface) for address in addresses)])

    def add_addresses(self, addresses: Iterable[str], interface: str = "eth0") -> None:
        """Give an interface more addresses."""
        self._ip_batch([_address_line("add", address, interface) for address in addresses])

    def _ip_batch(self, lines: list[str]) -> None:
        _do(["ip", "-n", self.namespace, "-batch", "-"], "\n".join(lines) + "\n")

    def ip(self, *arguments: str) -> str:
        """Run `ip` for this host (`host.ip("link", "set", "eth0", "down")`); what it printed."""
        return _do(["ip", "-n", self.namespace, *arguments])

    def interface_index(self, name: str = "eth0") -> int:
        """The index of an interface in this host."""
        return int(self.ip("-o", "link", "show", "dev", name).partition(":")[0])

    def link_local(self, interface: str = "eth0") -> str:
        """The link-local address of an interface, without zone."""
        found = re.search(r"inet6 (fe80:[^/]+)/", self.ip("-6", "-o", "addr", "show", "dev", interface, "scope", "link"))
        if found is None:
            raise LabError(f"{self.name} has no link-local address on {interface}")
        return found[1]

    def run(self, command: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; whatever its exit code. Raises `TimeoutExpired`."""
        inside = [*_inside(self.namespace), *command]
        return subprocess.run(inside, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program that is ended with the lab; the process id is the program's own. `log`: where its output goes."""
        process = start_program([*_inside(self.namespace), *command], env, cwd, log)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Within this the calling thread is in the host: sockets that it opens stay there for good, the rest of the process is as before.

        That is how a test talks to a host from its own process.
        """
        with contextlib.ExitStack() as files:
            home = files.enter_context(Path("/proc/thread-self/ns/net").open("rb"))
            _enter(files.enter_context((_WHERE / self.namespace).open("rb")).fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    @contextlib.contextmanager
    def capture(self, expression: str = "", interface: str = "eth0") -> Iterator[Capture]:
        """Capture packets of an interface while this lasts: those that match a tcpdump expression, both ways. Needs tcpdump."""
        capture = Capture(self, expression, interface)
        try:
            yield capture
        finally:
            capture.stop()

    def lose(self, probability: float, interface: str | None = None) -> None:
        """From now on lose this share of the UDP datagrams that come in, IPv6 and IPv4. Needs iptables.

        A datagram is lost once for all sockets of the host: members that are to lose independently need a host each.
        """
        where = ["-i", interface] if interface else []
        how = ["-p", "udp", "-m", "statistic", "--mode", "random", "--probability", str(probability), "-j", "DROP"]
        for program in ("ip6tables", "iptables"):
            _do([*_inside(self.namespace), program, "-w", "-A", "INPUT", *where, *how])

    def end_processes(self) -> None:
        """End what was started here: asked first, killed after `END_S`. Also what those processes have left behind in the namespace."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + END_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        _kill_all_in(self.namespace)


class Capture:
    """A running tcpdump. `lines` has one line a packet, once it is stopped."""

    def __init__(self, host: Host, expression: str, interface: str) -> None:
        self.lines: list[str] = []
        self._host, self._interface = host, interface
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open until `stop`
        wanted = f"({expression}) or dst {_LAST_PACKET}" if expression else ""
        command = ["tcpdump", "-n", "-l", "-v", "--immediate-mode", "-B", "4096", "-i", interface, wanted]
        self._process = subprocess.Popen(
            [*_inside(host.namespace), *command], stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "listening on" in line:
                return
        self._process.wait()
        self._output.close()
        raise LabError(f"tcpdump did not start: {' '.join(command)}")

    def stop(self) -> None:
        """Stop capturing and read what was captured. Packets are one line each, as `tcpdump -v` words them (hop limit included).

        tcpdump forgets what it has not yet read when it is interrupted; so a last packet is sent, and waited for.
        """
        if self._output.closed:
            return
        try:
            with self._host.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (_LAST_PACKET, 9, 0, socket.if_nametoindex(self._interface)))
            wait_until(lambda: _LAST_PACKET in self._read(), what="the last packet of a capture")
        finally:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            packets = re.sub(r"\n\s+", " ", self._read()).splitlines()
            self.lines = [packet for packet in packets if packet and _LAST_PACKET not in packet]
            self._output.close()

    def _read(self) -> str:
        return os.pread(self._output.fileno(), _LARGEST_CAPTURE_BYTES, 0).decode(errors="replace")


def start_program(
    command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
) -> subprocess.Popen[str]:
    """Start a program without input; its output is added to `log`, or goes nowhere. `env` is added to this process's."""
    with contextlib.ExitStack() as files:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=files.enter_context(log.open("a")) if log is not None else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )


def wait_until(reached: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition") -> None:
    """Call a function until it returns something true. Raises `TimeoutError` that names `what`."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {timeout_s} s")
        time.sleep(0.02)


def remove_left_overs() -> None:
    """Remove the namespaces of test runs that are no more."""
    if not _WHERE.is_dir():
        return
    for path in _WHERE.iterdir():
        found = re.fullmatch(r"m2m-(\d+)-.+", path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _kill_all_in(path.name)
            _remove(path.name)


def _inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net={_WHERE / namespace}", "--"]


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _address_line(verb: str, address: str, interface: str) -> str:
    return f"addr {verb} {address} dev {interface}" + (" nodad" if ":" in address else "")


def _kill_all_in(namespace: str) -> None:
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    for text in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text), signal.SIGKILL)


def _remove(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
