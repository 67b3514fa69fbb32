"""A browser for tests: Debian's Chromium, driven by its chromedriver over the W3C WebDriver protocol, with Python's own HTTP client.

    with Browser() as browser:
        browser.open("http://127.0.0.1:8080/admin/")
        sign_in(browser, token)
        browser.wait_text("h1", "Overview")

Responsible for starting and ending the browser and for what a person does and sees in it: keys, clicks, texts, tabs, pictures. Also for
what the person does not see: requests that left, and complaints of the browser. Not responsible for gateways (`nodes`).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from tests.system.namespaces import wait_until
from tests.system.node_modules import node_environment, skip_reason_of_npm
from tests.system.programs import START_S, Here, Place, free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name that WebDriver gives a reference to an element (W3C WebDriver, 12.1)."""
_WAIT_S = 20.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_CHILD_S = 300
"""A browser that a killed test run has left ends by itself after this: `timeout` starts it."""


def skip_reason_of_browser() -> str | None:
    """Why no browser can be driven here, or axe-core not had; None if they can. The first call installs that, which needs the registry."""
    missing = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else skip_reason_of_npm()


class WebDriverError(Exception):
    """The browser could not do what it was asked: its own name of the error, and its message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class Browser:
    """One browser with a new profile. `dark`: its user likes dark pages; `place`: where it runs. Use it in a `with`."""

    def __init__(
        self, width: int = 1280, height: int = 800, *, dark: bool = False, script: bool = True, place: Place | None = None
    ) -> None:
        self._size, self._dark, self._script = (width, height), dark, script
        self._place: Place = place if place is not None else Here()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Browser:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _start(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="m2m-browser-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._port = free_port()
        command = ["timeout", "--kill-after=5", str(_CHILD_S), "chromedriver", f"--port={self._port}"]
        process = self._place.popen(command, None, folder, folder / "chromedriver.log")
        self._stack.callback(_end, process)
        wait_until(self._is_up, START_S, "chromedriver")
        width, height = self._size
        options: dict[str, object] = {
            "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"],
            "prefs": {"profile.managed_default_content_settings.javascript": 1 if self._script else 2},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        assert isinstance(made, dict), made
        self._session = f"/session/{made['sessionId']}"
        self._stack.callback(self._quit)
        self.resize(width, height)
        self.look(dark=self._dark)

    # What a person does.

    def open(self, uri: str) -> None:
        """Go to an address, and wait until it is loaded."""
        self._do("POST", "/url", {"url": uri})

    def reload(self) -> None:
        """Load the page again."""
        self._do("POST", "/refresh", {})

    def click(self, css: str, text: str = "") -> None:
        """Click the first element that a selector finds, or the first that says so."""
        self._on(css, text, "click", {})

    def fill(self, css: str, text: str) -> None:
        """Type into a field what shall stand there alone."""
        self._on(css, "", "clear", {})
        self._on(css, "", "value", {"text": text})

    def keys(self, css: str, text: str) -> None:
        """Press keys in an element; those without a character are in WebDriver's private range (17.4.2)."""
        self._on(css, "", "value", {"text": text})

    def choose(self, css: str, value: str) -> None:
        """Choose an option of a `select` by its value."""
        self.click(f'{css} option[value="{value}"]')

    def resize(self, width: int, height: int) -> None:
        """The size of what is seen, in CSS pixels, also below what a window may have."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def look(self, *, dark: bool) -> None:
        """What its user likes: dark pages, or light ones."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def new_tab(self) -> str:
        """Open a tab and go on there; its handle."""
        made = self._do("POST", "/window/new", {"type": "tab"})
        assert isinstance(made, dict), made
        handle = str(made["handle"])
        self.tab(handle)
        return handle

    def tab(self, handle: str) -> None:
        """Go on in a tab."""
        self._do("POST", "/window", {"handle": handle})

    @property
    def this_tab(self) -> str:
        """The handle of this tab."""
        return str(self._do("GET", "/window"))

    # What a person sees.

    @property
    def uri(self) -> str:
        """The address that is shown."""
        return str(self._do("GET", "/url"))

    def text(self, css: str = "body") -> str:
        """The text that is seen in the first element that a selector finds."""
        found = self._do("GET", f"/element/{self._find(css)}/text")
        return str(found)

    def texts(self, css: str) -> list[str]:
        """The text content of all elements that a selector finds."""
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.trim())", css)
        assert isinstance(found, list), found
        return [str(one) for one in found]

    def count(self, css: str) -> int:
        """How many elements a selector finds."""
        return len(self.texts(css))

    def wait(self, css: str, timeout_s: float = _WAIT_S) -> None:
        """Wait until a selector finds something."""
        wait_until(lambda: self.count(css), timeout_s, f"{css} at {self.uri}")

    def wait_text(self, css: str, text: str, timeout_s: float = _WAIT_S) -> None:
        """Wait until one of the elements that a selector finds says so, among other things."""
        try:
            wait_until(lambda: any(text in one for one in self.texts(css)), timeout_s, f"{text!r} in {css}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; at {self.uri} it says {self.texts(css)}") from error

    def wait_live(self) -> None:
        """Wait until the page hears of changes."""
        self.wait('html[data-connection="live"]')

    def picture(self, file: Path) -> None:
        """A picture of what is seen, as PNG."""
        file.write_bytes(base64.b64decode(str(self._do("GET", "/screenshot"))))

    # What a person does not see.

    def run(self, script: str, *arguments: object) -> object:
        """Run a script in the page; what it returns."""
        return self._do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: object) -> object:
        """Run a script that hands its result to its last argument."""
        return self._do("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def command(self, name: str, **parameters: object) -> object:
        """A command of Chromium's own (DevTools protocol)."""
        return self._do("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def requests(self) -> list[str]:
        """The addresses that the browser asked for since the last look, those of this tab."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [str(one["params"]["request"]["url"]) for one in messages if one["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the browser complained of since the last look: errors of scripts, and what the policy of the page forbids."""
        return [str(entry["message"]) for entry in self._log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def axe(self) -> list[str]:
        """What the accessibility rules of axe-core find wrong here, of serious and critical impact: rule, what it is, and where."""
        source = (Path(node_environment()["NODE_PATH"]) / "axe-core" / "axe.min.js").read_text()
        # By the debugger, since the policy of the page rightly lets no script in.
        self.command("Runtime.evaluate", expression=source)
        script = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations))"
        found = self.run_async(script)
        assert isinstance(found, list), found
        return [
            f"{one['id']}: {one['help']}: {node['html']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    # The protocol.

    def _log(self, kind: str) -> list[dict[str, str]]:
        found = self._do("POST", "/se/log", {"type": kind})
        return found if isinstance(found, list) else []

    def _find(self, css: str, text: str = "") -> str:
        """The reference of an element, which may still have to come."""
        script = "return [...document.querySelectorAll(arguments[0])].find((one) => one.textContent.includes(arguments[1])) || null"
        deadline = time.monotonic() + _WAIT_S
        while True:
            found = self.run(script, css, text)
            if isinstance(found, dict):
                return str(found[ELEMENT])
            if time.monotonic() > deadline:
                raise AssertionError(f"there is no {css} {text!r} at {self.uri}:\n{self.texts('body')}")
            time.sleep(0.05)

    def _on(self, css: str, text: str, action: str, arguments: dict[str, object]) -> None:
        """Do something with an element; again where the page was replaced meanwhile."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                self._do("POST", f"/element/{self._find(css, text)}/{action}", arguments)
                return
            except WebDriverError as error:
                again = error.name in ("stale element reference", "element click intercepted", "element not interactable")
                if not again or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _do(self, method: str, path: str, body: object = None) -> object:
        return self._ask(method, self._session + path, body)

    def _ask(self, method: str, path: str, body: object = None) -> object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S)
        with contextlib.closing(connection):
            with self._place.entered():
                connection.connect()
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise WebDriverError(str(value["error"]), str(value.get("message", "")))
        found: object = value
        return found

    def _is_up(self) -> bool:
        try:
            status = self._ask("GET", "/status")
        except (OSError, http.client.HTTPException):
            return False
        return isinstance(status, dict) and bool(status.get("ready"))

    def _quit(self) -> None:
        with contextlib.suppress(WebDriverError, OSError, http.client.HTTPException):
            self._do("DELETE", "")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def hosts(uris: Sequence[str]) -> set[str]:
    """The hosts and ports that addresses name; `data:` and `chrome:` and their like name none."""
    return {parts.netloc for parts in map(urlsplit, uris) if parts.scheme in ("http", "https", "ws", "wss")}


@contextlib.contextmanager
def signed_in(uri: str, token: str, width: int = 1280, height: int = 800, *, dark: bool = False) -> Iterator[Browser]:
    """A browser that has signed in with a token at the pages of a gateway, on the overview; `uri` has no path."""
    with Browser(width, height, dark=dark) as browser:
        browser.open(uri + "/admin/")
        sign_in(browser, token)
        yield browser


def sign_in(browser: Browser, token: str) -> None:
    """Sign in with a token, where the sign-in page is shown."""
    browser.click("#with-token summary")
    browser.fill("#token", token)
    browser.click("#by-token button")
    browser.wait(".who")
