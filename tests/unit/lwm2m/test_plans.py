"""`lwm2m.plans` and `settings`: what a plan may be, whom it is for, and every fault of it."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.plans import MAX_PATTERNS, PlanBook, PlanShape, Security, plan_of
from m2mapp.lwm2m.settings import BootstrapSettings, read
from m2mapp.model.errors import Conflict, Malformed, Overloaded
from tests.certificates import issue
from tests.unit.lwm2m.parts import FLEET, SERVER, plan

_SAFE = {"shortId": 2, "uri": "coaps://m.example.org", "security": "certificate", "credentials": "fleet"}


class ShapeTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A plan says whom it is for and which servers there are; all else has its default."""
        found = plan_of("x", PlanShape(("fleet",)).check("x", {"default": True, "identity": "certificate", "servers": [SERVER, _SAFE]}))
        self.assertEqual((found.selector.value, found.identity.value, found.delete.value), ("default", "certificate", "all"))
        self.assertEqual((found.discover, found.pack), (False, False))
        self.assertEqual([account.security for account in found.accounts], [Security.NONE, Security.CERTIFICATE])
        self.assertEqual((found.accounts[1].lifetime_s, found.accounts[1].binding, found.accounts[1].storing), (86_400, "U", False))

    def test_all_said(self) -> None:
        """What a plan says of a server arrives."""
        server = {**SERVER, "binding": "UQ", "storing": True}
        found = plan(servers=[server], delete="accounts", discover=True, pack=True)
        self.assertEqual((found.accounts[0].binding, found.accounts[0].storing, found.accounts[0].lifetime_s), ("UQ", True, 300))
        self.assertEqual((found.delete.value, found.discover, found.pack), ("accounts", True, True))

    def test_faults(self) -> None:
        """Each fault names its key: clashing short identifiers, bad URIs, unknown keys and credentials, security that is not the URI's."""
        cases: dict[str, dict[str, object]] = {
            "servers[1].shortId": {"servers": [SERVER, {**SERVER, "uri": "coap://b"}]},
            "servers[0].uri": {"servers": [{**SERVER, "uri": "http://x"}]},
            "servers[0].uri ": {"servers": [{**SERVER, "uri": "coap://x/path"}]},
            "servers[0].uri  ": {"servers": [{**SERVER, "uri": "coaps://x"}]},
            "servers[0].uri   ": {"servers": [{**SERVER, "uri": 5}]},
            "identity ": {"servers": [_SAFE]},
            "servers[0].credentials": {"servers": [{**_SAFE, "credentials": "other"}]},
            "servers[0].credentials ": {"servers": [{**_SAFE, "credentials": ""}]},
            "servers[0].credentials  ": {"servers": [{**SERVER, "credentials": "fleet"}]},
            "servers[0].shortId": {"servers": [{**SERVER, "shortId": 65_535}]},
            "servers[0].shortID": {"servers": [{**SERVER, "shortID": 5}]},
            "servers[0].binding": {"servers": [{**SERVER, "binding": "UU"}]},
            "servers[0].lifetime": {"servers": [{**SERVER, "lifetime": 0}]},
            "servers": {"servers": []},
            "server": {"server": {}},
            "endpoint": {"endpoint": "a/b"},
            "pattern": {"pattern": "dev-*"},
            "default": {"default": 1},
            "identity": {"identity": "psk"},
            "delete": {"delete": "nothing"},
            "name": {"name": "other"},
        }
        for key, more in cases.items():
            with self.subTest(key):
                caught = self.assertRaises(
                    Malformed, PlanShape(("fleet",)).check, "x", {"endpoint": "dev-one", "servers": [SERVER], **more}
                )
                self.assertEqual(caught.field, key.strip())

    def test_for_nobody(self) -> None:
        """A plan that says nobody is refused."""
        self.assertRaises(Malformed, PlanShape(()).check, "x", {"servers": [SERVER]})


class BookTests(SynchronousTestCase):
    def test_find(self) -> None:
        """The endpoint's own plan, else the pattern that says most of the name, else the default, else none; not one that is gone."""
        book = PlanBook()
        told: dict[str, dict[str, object]] = {
            "one": {"endpoint": "dev-one"},
            "wide": {"pattern": "dev-*"},
            "narrow": {"pattern": "dev-b?"},
            "all": {"default": True},
        }
        for name, whom in told.items():
            book.put(plan_of(name, PlanShape(()).check(name, {**whom, "servers": [SERVER]})))

        def names(*endpoints: str) -> list[str | None]:
            return [found.name if (found := book.find(endpoint)) is not None else None for endpoint in endpoints]

        self.assertEqual(names("dev-one", "dev-b2", "dev-b22", "x"), ["one", "narrow", "wide", "all"])
        book.put(plan_of("odd", PlanShape(()).check("odd", {**FLEET, "pattern": "[ab]*"})))
        self.assertEqual(names("[ab]c", "a"), ["odd", "all"])
        for name in ("one", "narrow", "all", "all"):
            book.drop(name)
        self.assertEqual(names("dev-one", "dev-b2", "x"), ["wide", "wide", None])

    def test_clashes(self) -> None:
        """Two plans for the same devices clash; a plan does not clash with itself."""
        book = PlanBook()
        for whom in ({"endpoint": "a"}, {"pattern": "a"}, {"default": True}):
            first, second = (plan_of(name, PlanShape(()).check(name, {**whom, "servers": [SERVER]})) for name in ("first", "second"))
            book.put(first)
            book.check(first)
            self.assertRaises(Conflict, book.check, second)

    def test_too_many_patterns(self) -> None:
        """There are so many patterns and no more, since each is tried; plans by endpoint are not counted."""
        book = PlanBook()
        for number in range(MAX_PATTERNS):
            book.put(plan_of(str(number), PlanShape(()).check(str(number), {**FLEET, "pattern": f"{number}-*"})))
        self.assertRaises(Overloaded, book.check, plan_of("more", PlanShape(()).check("more", FLEET)))
        book.check(plan())


class SettingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(self._remove)

    def _remove(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()

    def read(self, more: str = "", **plans: str) -> tuple[BootstrapSettings, list[str]]:
        """The settings with plans of these names, and the faults as they are told."""
        for name, text in plans.items():
            (self.folder / f"{name}.toml").write_text(text)
        settings, faults = read(tomllib.loads(f'plans = "{self.folder}"\n{more}'), "[bootstrap] ")
        return settings, [fault.detail for fault in faults]

    def test_read(self) -> None:
        """Plans are named as their files and say where they are from; limits and credentials are read."""
        shown = issue("dev-one")
        certificate, key = shown.write(self.folder, "fleet")
        fleet = f'[credentials.fleet]\ncertificate = "{certificate}"\nkey = "{key}"\nserver = "{certificate}"\n'
        server = '[[servers]]\nshortId = 2\nuri = "coaps://m"\nsecurity = "certificate"\ncredentials = "fleet"\n'
        text = f'default = true\nidentity = "certificate"\n{server}'
        settings, faults = self.read("session_s = 5\nsessions = 7\nsessions_per_host = 3\n" + fleet, all=text)
        self.assertEqual((faults, list(settings.plans)), ([], ["all"]))
        self.assertEqual(settings.plans["all"]["file"], str(self.folder / "all.toml"))
        self.assertEqual((settings.session_s, settings.sessions, settings.sessions_per_host), (5.0, 7, 3))
        self.assertEqual((settings.credentials["fleet"].certificate, settings.credentials["fleet"].server), (shown.der, shown.der))
        self.assertEqual(settings.credentials["fleet"].key[:1], b"\x30")

    def test_least(self) -> None:
        """An empty table is enough: plans are then written as resources."""
        self.assertEqual(read({}, "[bootstrap] "), (BootstrapSettings(), []))

    def test_plan_faults(self) -> None:
        """Every fault of every plan is told at once, with its file: no TOML, unknown keys, two for the same devices."""
        good = 'pattern = "a*"\n[[servers]]\nshortId = 1\nuri = "coap://m"\n'
        _, faults = self.read(bad="=", first=good, second=good, third="defalt = true\n" + good)
        self.assertEqual(len(faults), 3, faults)
        for fault, words in zip(faults, ("bad.toml: a file is not TOML", "second.toml", "third.toml: defalt"), strict=True):
            self.assertIn(words, fault)
        self.assertIn("the plan first is for pattern a* already", faults[1])

    def test_credential_faults(self) -> None:
        """Files that are not there or hold something else, and a key of another certificate, are told with their table."""
        certificate, _ = issue("a").write(self.folder, "a")
        _, other = issue("b").write(self.folder, "b")
        text = f'[credentials.x]\ncertificate = "{certificate}"\nkey = "{other}"\nserver = "{certificate}"\n'
        self.assertIn("[bootstrap.credentials.x] key: a key of another certificate", self.read(text)[1][0])
        text = f'[credentials.x]\ncertificate = "{other}"\nkey = "{certificate}"\nserver = "/nowhere"\n'
        self.assertEqual(
            [fault.split(":")[0] for fault in self.read(text)[1]],
            [f"[bootstrap.credentials.x] {key}" for key in ("certificate", "key", "server")],
        )
        self.assertIn("a table", self.read("credentials = 5\n")[1][0])
        self.assertIn("a table", self.read("credentials.x = 5\n")[1][0])

    def test_unreadable(self) -> None:
        """A plan that cannot be read is told with its file."""
        (self.folder / "x.toml").symlink_to("/nowhere")
        self.assertIn("No such file", self.read()[1][0])

    def test_no_folder(self) -> None:
        """A folder that is not there is told."""
        faults = read({"plans": "/nowhere", "session_s": 0}, "[bootstrap] ")[1]
        self.assertEqual([fault.field for fault in faults], ["[bootstrap] plans", "[bootstrap] session_s"])
