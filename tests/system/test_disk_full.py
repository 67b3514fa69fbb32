"""The disk of a gateway is full: writers are told, readers are served, it recovers by itself, and what was answered is there."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.http_calls import Reply
from tests.system.libcoap import coap_client
from tests.system.namespaces import Host, skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, Gateway, Site
from tests.system.programs import STOPPED, Tables

_MB = 1 << 20
_DISK_MB, _FILLER_MB = 48, 24
_PIECE = 128 * 1024
_WRITABLE: Tables = {**GROUP_SERVER, "coap.access": {"write": ["link"]}}


def _skip_reason() -> str | None:
    reason = skip_reason("coap-client-notls", "unshare", "mount", "setpriv")
    if reason is not None:
        return reason
    probe = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False)
    return f"no tmpfs can be mounted here: {probe.stderr.strip()}" if probe.returncode else None


class _OnDisk:
    """A host whose programs see a small tmpfs at a folder. It is in a mount namespace that a process holds, and gone with that."""

    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        script = 'mount -t tmpfs -o "size=$1m" tmpfs "$0" && touch "$0/mounted" && exec sleep infinity'
        # --pdeathsig: a test run that was killed leaves no mount behind.
        hold = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        self._holder = host.popen([*hold, "sh", "-c", script, str(folder), str(_DISK_MB)])
        self.disk = Path(f"/proc/{self._holder.pid}/root{folder}")
        """The folder as this process sees it."""
        wait_until((self.disk / "mounted").exists, what="the tmpfs")

    def run(self, command: Sequence[str], timeout_s: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return self._host.run([*self._inside, *command], timeout_s, text)

    def popen(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program."""
        return self._host.popen([*self._inside, *command], env, cwd, log)

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Within this, sockets that the calling thread opens are in the host."""
        return self._host.entered()

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]


class _Disk:
    """A gateway whose state directory is on a small disk, of which a file that is in the way takes a half."""

    def __init__(self, site: Site) -> None:
        self.host = site.host("gw", ["fd00:1::1/64"])
        (site.folder / "gw-state").mkdir()
        on_disk = _OnDisk(self.host, site.folder / "gw-state")
        self.filler = on_disk.disk / "filler"
        self.filler.write_bytes(bytes(_FILLER_MB * _MB))
        self.gateway = Gateway(on_disk, site.folder, "gw", _WRITABLE)
        self.gateway.state_seen = on_disk.disk
        site.add(self.gateway)
        self.gateway.start()
        self.kept: dict[str, bytes] = {}
        """The writes that were answered."""
        self.refused: set[str] = set()
        self._numbers = itertools.count()

    def write(self) -> Reply:
        """One write of random bytes to a new path."""
        path, content = f"/data/{next(self._numbers)}", os.urandom(_PIECE)
        reply = self.gateway.request("PUT", path, content, "application/octet-stream")
        if reply.status == 201:
            self.kept[path] = content
        else:
            self.refused.add(path)
        return reply

    def fill(self) -> Reply:
        """Write until a write is refused; that answer."""
        for _ in range(_DISK_MB * _MB // _PIECE):
            reply = self.write()
            if reply.status != 201:
                return reply
        raise AssertionError("the disk does not get full")

    def recovers(self) -> None:
        """Make room and wait until writes are taken again."""
        self.filler.unlink()
        wait_until(lambda: self.write().status == 201, 60, "a write to be taken again")


class DiskFullTests(SynchronousTestCase):
    skip = _skip_reason()

    def check_content(self, disk: _Disk) -> None:
        """What was answered is there, what was refused is not."""
        with disk.gateway.caller() as caller:
            for path, content in disk.kept.items():
                self.assertEqual(caller.request("GET", path).body, content, path)
            for path in disk.refused:
                self.assertEqual(caller.request("GET", path).status, 404, path)

    def test_full_and_again(self) -> None:
        """507 and 5.00 while it is full, reads and removals go on, writes come back by themselves; a kill afterwards loses nothing."""
        with Site() as site:
            disk = _Disk(site)
            refused = disk.fill()
            self.assertGreater(len(disk.kept), 20)
            for reply in (refused, disk.write(), disk.write()):
                self.assertEqual((reply.status, reply.headers["content-type"]), (507, "application/problem+json"))
                self.assertEqual(reply.json()["type"], "urn:m2mapp:problem:storage-full")
            by_coap = coap_client(disk.host, "put", "coap://[fd00:1::1]/data/coap", "-t", "42", payload=os.urandom(_PIECE))
            self.assertEqual(by_coap.code, "5.00")
            self.assertIn("storage-full", by_coap.text)
            self.check_content(disk)
            some, content = next(iter(disk.kept.items()))
            read = coap_client(disk.host, "get", f"coap://[fd00:1::1]{some}")
            self.assertEqual((read.code, read.payload), ("2.05", content))
            self.assertEqual(disk.gateway.request("DELETE", some).status, 204)
            del disk.kept[some]
            disk.recovers()
            for _ in range(10):
                self.assertEqual(disk.write().status, 201)
            self.check_content(disk)
            disk.gateway.kill()
            disk.gateway.start()
            self.check_content(disk)
            self.assertEqual(disk.gateway.get("/data/coap").status, 404)

    def test_killed_while_full(self) -> None:
        """A gateway that is killed while its disk is full starts on the full disk, serves what was answered, and recovers."""
        with Site() as site:
            disk = _Disk(site)
            disk.fill()
            disk.gateway.kill()
            disk.gateway.start()
            self.check_content(disk)
            disk.recovers()
            self.assertIn(disk.gateway.stop(), STOPPED, disk.gateway.log)
            disk.gateway.start()
            self.check_content(disk)
