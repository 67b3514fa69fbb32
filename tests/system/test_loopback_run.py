"""`make run` without root: the demonstration comes up, and the commands that it prints do, as they are printed, what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import SMOKE, Site
from tests.system.programs import START_S, Place, environment, tail

_DEVICES = 30
_NAMESPACES = skip_reason() is None
_LIMIT_S = 900
"""The demonstration ends by itself after this, whatever happens to the test."""


_OTHER_USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def _unprivileged(*, namespaces: bool = False) -> list[str]:
    """The words before a command that run it without any privilege over networks, as another user where root runs the tests.

    Where the checkout and its Python are in somebody's home, that user may read what he otherwise could not. This right ends within a
    user namespace: then only root can try `namespaces`.
    """
    if os.geteuid() != 0:
        return []
    probe = [*_OTHER_USER, "--inh-caps=-all", "--bounding-set=-all", "env", *_words(), sys.executable, "-c", "import m2mapp.wiring"]
    if subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode == 0:
        return probe[: len(_OTHER_USER) + 2]
    if namespaces:
        return []
    may_read = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"]
    return [*_OTHER_USER, *may_read]


def _words() -> list[str]:
    return [f"{name}={value}" for name, value in environment().items()]


def _skip_reason() -> str | None:
    try:
        done = subprocess.run([*_unprivileged(), "curl", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return f"not installed: {error.filename}"
    return None if done.returncode == 0 else f"privileges cannot be given up here: {done.stderr.strip()}"


class _Demo:
    """A demonstration that runs, and what it printed."""

    def __init__(self, place: Place, process: subprocess.Popen[str], log: Path) -> None:
        self.place, self.process, self._log = place, process, log

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    @property
    def commands(self) -> list[str]:
        """The commands to try, as they are printed."""
        return re.findall(r"^ +(curl .+)$", self.text, re.MULTILINE)

    def shell(self, command: str) -> str:
        """What a command prints, run by a shell."""
        done = self.place.run(["sh", "-c", command])
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def _demo(site: Site, network: str, place: Place) -> Iterator[_Demo]:
    directory, log = site.folder / "run", site.folder / "demo.log"
    directory.mkdir()
    directory.chmod(0o777)
    site.folder.chmod(0o755)
    settings = [*_words(), f"M2MAPP_RUN={directory}", f"M2MAPP_NETWORK={network}"]
    program = [sys.executable, "-m", "m2mapp.sim.demo", "--seconds", str(_LIMIT_S)]
    process = place.popen([*_unprivileged(namespaces=network != "loopback"), "env", f"--chdir={directory}", *settings, *program], log=log)
    demo = _Demo(place, process, log)
    try:
        wait_until(lambda: "Ctrl-C here" in demo.text or process.poll() is not None, 3 * START_S, "the commands to try")
        assert process.poll() is None, demo.text
        yield demo
    except BaseException:
        print(f"--- the demonstration:\n{tail(demo.text)}")
        for file in sorted(directory.rglob("*.log")):
            print(f"--- {file.name}:\n{tail(file.read_text(errors='replace'))}")
        raise
    finally:
        # It ends what it started; only where it cannot, they are killed.
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()


class DemoTests(SynchronousTestCase):
    skip = _skip_reason()

    def check_commands(self, site: Site, demo: _Demo) -> None:
        """All thirty answer one request, the switches are written, the thermometer is watched, and all ends in order."""
        read, switch, watch = demo.commands

        def all_answer() -> bool:
            document = json.loads(demo.shell(read))
            return len(document["members"]) == _DEVICES and document["complete"] is True and document["silent"] == []

        wait_until(all_answer, START_S, "all devices to answer")
        switched = json.loads(demo.shell(switch))
        self.assertEqual((switched["complete"], len(switched["members"])), (True, _DEVICES // 3))
        self.assertEqual({entry["status"] for entry in switched["members"].values()}, {"2.04"})
        seen = site.folder / "watched"
        watching = demo.place.popen(["sh", "-c", f"exec {watch}"], log=seen)
        wait_until(lambda: "event: change" in seen.read_text(), START_S, "an event")
        watching.send_signal(signal.SIGINT)
        watching.wait(START_S)
        demo.process.send_signal(signal.SIGINT)
        self.assertEqual(demo.process.wait(START_S), 0, demo.text)
        self.assertIn("stopping", demo.text)
        self.assertNotIn("is killed", demo.text)

    def test_loopback(self) -> None:
        """On the loopback interface, over IPv4, without any privilege."""
        with contextlib.ExitStack() as stack:
            site = stack.enter_context(Site(namespaces=_NAMESPACES))
            # In a host of its own, where that can be had: the ports of this machine's own loopback are others'.
            place: Place = site.host("all", ()) if _NAMESPACES else site.here
            self.check_commands(site, stack.enter_context(_demo(site, "loopback", place)))

    def test_namespaces(self) -> None:
        """In namespaces that the demonstration makes for itself, over IPv6; where it may not, it says so and uses the loopback."""
        if SMOKE:
            self.skipTest("one of the two networks is enough of a smoke")
        with contextlib.ExitStack() as stack:
            site = stack.enter_context(Site(namespaces=_NAMESPACES))
            place: Place = site.host("all", ()) if _NAMESPACES else site.here
            demo = stack.enter_context(_demo(site, "auto", place))
            self.assertRegex(demo.text, r"network: namespaces|loopback interface instead")
            self.check_commands(site, demo)
