"""`make screenshots`: a picture of each page, light at a desk and dark on a phone, of the demonstration with its thirty devices.

They go to `docs/pages`. Responsible for taking them; what they show is the demonstration's (`m2mapp.sim.demo`) and the pages'.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from m2mapp.sim.files import ALL, PATH
from tests.system.browser import Browser, signed_in, skip_reason_of_browser
from tests.system.namespaces import wait_until
from tests.system.programs import ROOT, START_S, environment

FOLDER = ROOT / "docs" / "pages"
LOOKS = (("light", 1280, 800, False), ("phone", 390, 844, True))
SUBJECT = "/office/temperature"
PAGES = {
    "overview": "/admin/",
    "tree": f"/admin/tree{PATH}",
    "people": "/admin/people",
    "audit": "/admin/audit",
    "groups": "/admin/groups",
    "group": f"/admin/groups/{ALL}",
    "network": "/admin/network?group=switches",
    "operations": "/admin/operations",
    "operation": f"/admin/operations{SUBJECT}/Operations/TurnOnAC",
    "addresses": "/admin/addresses",
    "devices": "/admin/devices?q=d1.example",
    "device": "/admin/devices/d1",
}
"""The pages by the name of their pictures."""
_READS, _EACH_S = 40, 2.0
"""So many reads of all devices, and how long after each other: for the plots to have something to show."""
_LARGEST_BYTES = 150_000
PASSWORD = "a few words of no meaning"


@contextlib.contextmanager
def demonstration(folder: Path) -> Iterator[tuple[str, str]]:
    """The demonstration, running: the address of its gateway, and the administrator's token."""
    log = folder / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "m2mapp.sim.demo", "--seconds", "600"],
            env={**os.environ, **environment(), "M2MAPP_RUN": str(folder / "run")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ctrl-C here stops" in log.read_text() or process.poll() is not None, 2 * START_S, "the demonstration")
        text = log.read_text()
        found = re.search(r"^gateway +(\S+).*^token +(\S+)", text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise RuntimeError(text)
        yield found[1], found[2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)


def send(uri: str, token: str, method: str, path: str, body: str = "", media_type: str = "text/plain") -> None:
    """One request to the gateway."""
    connection = http.client.HTTPConnection(urlsplit(uri).netloc, timeout=START_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Authorization": f"Bearer {token}", "Content-Type": media_type})
        connection.getresponse().read()


def read_all(uri: str, token: str) -> None:
    """One group read of all devices."""
    send(uri, token, "GET", f"/groups/{ALL}/membersContent")


def operate(uri: str, token: str) -> None:
    """Operations to see: one that ran, and one whose rule did not hold."""
    for path, content in ((SUBJECT, "24"), ("/office/window", "closed"), ("/office/ac", "OFF")):
        send(uri, token, "PUT", path, content)
    closed = {"name": "WindowClosed", "uri": "/office/window", "rule": "value == 'closed'"}
    turn_on = {"name": "TurnOnAC", "rule": "value > 30", "objectResource": "/office/ac", "method": "update", "input": "ON"}
    close = {"name": "CloseWindow", "rule": "value > 35", "objectResource": "/office/window", "method": "update", "input": "closed"}
    for one in ({**turn_on, "priority": 1, "dependencies": [closed]}, {**close, "priority": 2}):
        send(uri, token, "POST", f"{SUBJECT}/Operations", json.dumps(one), "application/json")
    for content in ("29", "31"):
        send(uri, token, "PUT", SUBJECT, content)


def make_people(browser: Browser, uri: str) -> None:
    """Somebody to see on the page of people."""
    browser.open(uri + "/admin/people")
    browser.click("#new-user summary")
    for field, text in (("name", "anna"), ("password", PASSWORD), ("repeat", PASSWORD), ("scopes", "/groups /scls")):
        browser.fill(f"#new-user [name={field}]", text)
    browser.choose("#role", "operator")
    browser.click("#new-user button")
    browser.wait_text("#users th", "anna")
    browser.click("#new-token-form summary")
    browser.fill("#token-name", "dashboard")
    browser.click("#new-token-form button")
    browser.wait("#new-token")


def take(browser: Browser, uri: str, look: str) -> None:
    """A picture of each page as this browser shows it."""
    for name, path in PAGES.items():
        browser.open(uri + path)
        browser.wait_live()
        time.sleep(1.5)  # Plots are drawn after the page is there.
        keep(browser, name, look)
    browser.open(f"{uri}/admin/groups/{ALL}")
    browser.click("#read-all button")
    browser.wait_text("#progress", "Took")
    keep(browser, "asked", look)
    browser.open(uri + "/admin/new-group")
    browser.fill("#find", "temperature")
    browser.click("#picker button[value=pick-all]")
    browser.wait_text("#members", PATH)
    browser.click(".buttons button[value=plan]")
    browser.wait("#plan")
    keep(browser, "plan", look)


def keep(browser: Browser, name: str, look: str) -> None:
    """A picture of what is seen, in the folder."""
    file = FOLDER / f"{name}-{look}.png"
    browser.picture(file)
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}: {size} bytes")
    if size > _LARGEST_BYTES:
        raise RuntimeError(f"{file} is larger than {_LARGEST_BYTES} bytes")


def main() -> int:
    """Take all pictures. 0 when they are there."""
    reason = skip_reason_of_browser()
    if reason is not None:
        print(reason)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, demonstration(Path(folder)) as (uri, token):
        for _ in range(_READS):
            read_all(uri, token)
            time.sleep(_EACH_S)
        operate(uri, token)
        with signed_in(uri, token) as browser:
            make_people(browser, uri)
        for look, width, height, dark in LOOKS:
            with signed_in(uri, token, width, height, dark=dark) as browser:
                take(browser, uri, look)
    return 0


if __name__ == "__main__":
    sys.exit(main())
