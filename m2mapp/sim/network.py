"""The network of the demonstration, without root: IPv6 in network namespaces, or IPv4 on the loopback interface.

In namespaces: a user namespace of one's own, in it two network namespaces with a veth pair between them, one for the gateway and one
for all devices. Many hosts forbid it to ordinary users: then all addresses are in 127.0.0.0/8 of the host itself. Only the programs
`unshare`, `nsenter` and `ip` are used. Nothing here knows what runs in the network.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

AUTO, NAMESPACES, LOOPBACK = "auto", "namespaces", "loopback"
COAP_PORT = 5683
_PREFIX = "fd00:6d32:6d::"
_GATEWAY_INTERFACE, _DEVICE_INTERFACE = "gw0", "dev0"
_STEP_TIMEOUT_S = 10.0


class NetworkUnavailable(Exception):  # noqa: N818 - a fact about the host
    """This host does not let us have such a network; says why."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network: addresses and interfaces of its two sides, and the words that a command is to begin with to run there.

    `outside`: its processes cannot be reached from here, so that the gateway needs a listening socket of ours.
    """

    kind: str
    gateway: str
    gateway_interface: str
    device_interface: str
    port: int
    outside: bool
    in_gateway: tuple[str, ...] = ()
    in_devices: tuple[str, ...] = ()
    _holders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """The prefix of which the gateway gives its devices addresses by DHCPv6; empty where each has an address from the start."""
        return f"{_PREFIX}/64" if self.kind == NAMESPACES else ""

    def device(self, number: int) -> str:
        """The address that the device of that number, from 1, has from the start: a link-local one where it is given another."""
        return f"fe80::d{number}" if self.kind == NAMESPACES else f"127.0.1.{number}"

    def authority(self, address: str) -> str:
        """An address with the CoAP port, as a URI has it."""
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    def close(self) -> None:
        """End what holds the namespaces; they go with the last process in them."""
        while self._holders:
            holder = self._holders.pop()
            holder.kill()
            holder.communicate()


def open_network(wish: str, devices: int, tell: Callable[[str], object]) -> Network:
    """The network that is wished for; `auto`: namespaces where the host allows them, else loopback, with the reason told.

    Raises `NetworkUnavailable`.
    """
    if wish not in (AUTO, NAMESPACES, LOOPBACK):
        raise NetworkUnavailable(f"M2MAPP_NETWORK: {wish!r} is none of {AUTO}, {NAMESPACES}, {LOOPBACK}")
    if wish == LOOPBACK:
        return on_loopback()
    try:
        return in_namespaces(devices)
    except NetworkUnavailable as unavailable:
        if wish == NAMESPACES:
            raise
        tell(f"no network namespaces for IPv6 here ({unavailable}): IPv4 on the loopback interface instead")
        return on_loopback()


def on_loopback() -> Network:
    """The gateway at 127.0.0.1, devices from 127.0.1.1 on. Raises `NetworkUnavailable` where no port is free for all."""
    for port in (COAP_PORT, *range(15683, 15693)):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return Network(LOOPBACK, "127.0.0.1", "lo", "lo", port, outside=False)
    raise NetworkUnavailable(f"UDP port {COAP_PORT} of 127.0.0.1 is taken, and so are ten others from 15683 on")


def in_namespaces(devices: int) -> Network:
    """A gateway's and a devices' namespace with a veth pair between. Raises `NetworkUnavailable`, with nothing left behind."""
    unshare, nsenter, ip = (_found(name) for name in ("unshare", "nsenter", "ip"))
    holders: list[subprocess.Popen[bytes]] = []
    network: Network | None = None
    try:
        holders.append(_hold([unshare, "--user", "--map-root-user", "--net", "cat"]))
        enter = _entry(nsenter, holders[0])
        holders.append(_hold([*enter, unshare, "--net", "cat"]))
        network = Network(
            NAMESPACES,
            _PREFIX + "1",
            _GATEWAY_INTERFACE,
            _DEVICE_INTERFACE,
            COAP_PORT,
            outside=True,
            in_gateway=enter,
            in_devices=_entry(nsenter, holders[1]),
            _holders=holders,
        )
        pair = f"link add {_GATEWAY_INTERFACE} type veth peer name {_DEVICE_INTERFACE} netns {holders[1].pid}\n"
        _batch([*network.in_gateway, ip], pair + _side(_GATEWAY_INTERFACE, ["fe80::1"]))
        addresses = [network.device(number) for number in range(1, devices + 1)]
        _batch([*network.in_devices, ip], _side(_DEVICE_INTERFACE, ["fe80::2", *addresses]))
    except BaseException:
        (network or Network(NAMESPACES, "", "", "", 0, outside=True, _holders=holders)).close()
        raise
    return network


def _side(interface: str, addresses: list[str]) -> str:
    """What `ip -batch` does to one end of the pair. No address waits for duplicate address detection: nobody else is there."""
    ready = ["link set lo up", f"link set {interface} addrgenmode none", f"link set {interface} up"]
    return "\n".join([*ready, *(f"address add {address}/64 dev {interface} nodad" for address in addresses), ""])


def _found(name: str) -> str:
    """Where a program is. Ordinary users do not have the administrator's folders in their PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise NetworkUnavailable(f"the program {name} is not installed")
    return found


def _entry(nsenter: str, holder: subprocess.Popen[bytes]) -> tuple[str, ...]:
    return (nsenter, f"--target={holder.pid}", "--user", "--net", "--preserve-credentials")


def _hold(command: list[str]) -> subprocess.Popen[bytes]:
    """A process that holds its namespaces until its input ends, which it does with us at the latest."""
    pipe = subprocess.PIPE
    holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)  # noqa: S603 - the command is our own
    try:
        if holder.stdin is not None and holder.stdout is not None:
            holder.stdin.write(b"there\n")
            holder.stdin.flush()
            ready, _, _ = select.select([holder.stdout], [], [], _STEP_TIMEOUT_S)
            if ready and holder.stdout.readline():
                return holder
    except OSError:
        pass  # It ended; what it said follows.
    holder.kill()
    said = holder.communicate()[1].decode(errors="replace").strip()
    raise NetworkUnavailable(said.splitlines()[-1] if said else f"{command[0]} did not answer")


def _batch(command: list[str], lines: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the command is our own
            [*command, "-batch", "-"], input=lines, capture_output=True, text=True, timeout=_STEP_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkUnavailable(str(error)) from error
    if done.returncode:
        raise NetworkUnavailable((done.stderr.strip() or f"ip ended with {done.returncode}").splitlines()[0])


def wish_of(environment: Mapping[str, str]) -> str:
    """The network that `M2MAPP_NETWORK` wishes for; `auto` where it says nothing."""
    return environment.get("M2MAPP_NETWORK") or AUTO
