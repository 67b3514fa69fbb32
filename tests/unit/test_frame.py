"""The frame around the code: the plugin, the bounds on what is installed, the example configuration, the check of the documents."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from tests.check_docs import dead_links, headings, one_machine_only, undocumented_tests, unknown_targets, unlisted

ROOT = Path(__file__).resolve().parent.parent.parent


def build_requirements() -> dict[str, list[Requirement]]:
    """What setup.cfg asks for: the program's own requirements as "runtime", and each extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = {"runtime": config["options"]["install_requires"], **config["options.extras_require"]}
    return {name: [Requirement(line) for line in text.splitlines() if line.strip()] for name, text in lists.items()}


def build_lock() -> dict[str, Version]:
    """The exact version of each package in the lock file, by its canonical name."""
    lines = (line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#"))
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


class PluginTests(SynchronousTestCase):
    def test_twistd_finds_the_plugin(self) -> None:
        """Twisted's own search finds one subcommand `m2m`, which names the wiring."""
        makers = [plugin for plugin in getPlugins(IServiceMaker) if isinstance(plugin, ServiceMaker) and plugin.tapname == "m2m"]
        self.assertEqual([(maker.name, maker.module) for maker in makers], [("m2mapp", "m2mapp.wiring")])

    def test_the_folder_does_not_hide_twisted(self) -> None:
        """With the checkout first on the path `import twisted` still gives Twisted: neither folder has an __init__.py."""
        self.assertEqual([str(path) for path in (ROOT / "twisted").rglob("__init__.py")], [])
        program = "import twisted, twisted.plugins; print(twisted.__file__); print(*twisted.plugins.__path__, sep='\\n')"
        shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        twisted_file, *plugin_folders = shown.splitlines()
        self.assertNotEqual(Path(twisted_file).parent, ROOT / "twisted")
        self.assertIn(str(ROOT / "twisted" / "plugins"), plugin_folders)

    def test_the_plugin_imports_nothing_of_the_program(self) -> None:
        """`twistd --help` reads the plugin of every package: ours brings in nothing of m2mapp, and no reactor."""
        program = (
            "import sys, twisted.plugins.m2mapp_plugin; "
            "print([m for m in sys.modules if m.split('.')[0] == 'm2mapp' or m == 'twisted.internet.reactor'])"
        )
        shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        self.assertEqual(shown.strip(), "[]")


class DependencyTests(SynchronousTestCase):
    def test_every_dependency_is_bounded_on_both_sides(self) -> None:
        """Each requirement of setup.cfg has one lower and one upper bound."""
        for name, requirements in build_requirements().items():
            self.assertNotEqual(requirements, [], name)
            for requirement in requirements:
                self.assertEqual(sorted(bound.operator for bound in requirement.specifier), ["<", ">="], str(requirement))

    def test_the_lock_file_keeps_the_bounds(self) -> None:
        """Every requirement, of the program, its tests and its checks, has a version in the lock file that is within its bounds."""
        lock = build_lock()
        for requirements in build_requirements().values():
            for requirement in requirements:
                version = lock.get(canonicalize_name(requirement.name))
                self.assertIsNotNone(version, f"{requirement.name} is not in requirements.lock")
                self.assertIn(version, requirement.specifier, str(requirement))

    def test_the_lock_file_builds_the_package(self) -> None:
        """The setuptools in the lock file is one that pyproject.toml takes, since `make` builds without isolation."""
        build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
        requirements = [Requirement(text) for text in build]
        self.assertEqual([requirement.name for requirement in requirements], ["setuptools"])
        self.assertIn(build_lock()["setuptools"], requirements[0].specifier)


class ExampleConfigurationTests(SynchronousTestCase):
    def test_the_example_has_the_tables_of_the_roles_that_exist(self) -> None:
        """etc/gateway.toml is TOML and shows each table that there is a role for, and no other."""
        example = tomllib.loads((ROOT / "etc" / "gateway.toml").read_text())
        self.assertEqual(sorted(example), ["coap", "groups", "http", "member", "node", "peers", "triggers"])
        self.assertEqual(sorted(example["coap"]["access"]), ["advertise", "read", "register", "write"])
        self.assertEqual(example["member"], {})

    def test_the_unit_starts_what_the_example_configures(self) -> None:
        """The systemd unit runs the subcommand in the foreground, keeps its state where the example says, and stops at a wrong file."""
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys have capitals
        unit.read(ROOT / "etc" / "m2mapp.service")
        service = unit["Service"]
        example = tomllib.loads((ROOT / "etc" / "gateway.toml").read_text())
        self.assertEqual(service["Type"], "notify")
        self.assertIn("twistd --nodaemon --pidfile= m2m --config /etc/m2mapp/gateway.toml", service["ExecStart"])
        self.assertEqual("/var/lib/" + service["StateDirectory"], example["node"]["state_dir"])
        self.assertEqual(service["RestartPreventExitStatus"], "78")

    def test_capabilities_are_asked_for_by_the_roles_alone(self) -> None:
        """The unit has none; the file beside it gives those of the DHCPv6 roles, and would keep none that it does not give."""
        wanted = {"CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW"}
        for name, capabilities in (("m2mapp.service", set[str]()), ("m2mapp-dhcpv6.conf", wanted)):
            unit = configparser.ConfigParser(interpolation=None)
            unit.read(ROOT / "etc" / name)
            for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
                self.assertEqual(set(unit["Service"][key].split()), capabilities, f"{name}: {key}")


class DocumentCheckTests(SynchronousTestCase):
    def test_dead_links_are_found(self) -> None:
        """A link to a file or a heading that is not there is told; one that leads somewhere, leaves, or stands in code is not."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "other.md").write_text("# A: heading `x`\n")
        text = "[a](other.md) [b](other.md#a-heading-x) [c](missing.md) [d](other.md#nothing) [e](https://example.org) `[f](gone.md)`\n"
        text += "```\n[g](gone.md)\n```\n[h]: lost.md\n"
        self.assertEqual(
            list(dead_links(folder / "page.md", text)),
            [
                "link to missing.md: there is no missing.md",
                "link to other.md#nothing: other.md has no such heading",
                "link to lost.md: there is no lost.md",
            ],
        )

    def test_headings_become_fragments(self) -> None:
        """Fragments are lower case, without punctuation, and what stands in a code block is no heading."""
        self.assertEqual(headings("# One two\n```\n# not this\n```\n## `make run` (now)\n"), {"one-two", "make-run-now"})

    def test_unknown_make_commands_are_found(self) -> None:
        """`make` commands in text and in code blocks are looked up; the verb in a sentence is none."""
        readme = "Type `make run`.\n```\n$ make fly && make test\nmake check\n```\nThey make sense.\n"
        self.assertEqual(list(unknown_targets(readme, "run: x\n\ntest:\ncheck:\n")), ["make fly: the Makefile has no such target"])

    def test_files_that_a_list_leaves_out_are_found(self) -> None:
        """A file beside a list that it has no link to is told."""
        self.assertEqual(list(unlisted("- [A](a.md)\n- b.md\n", ["b.md", "a.md"])), ["b.md is not in the list"])

    def test_places_of_one_machine_are_found(self) -> None:
        """Paths and hosts of one machine are told with their line; resources and URIs that look alike are not."""
        bad = ["/" + "work/main", "see /" + "root/x", "files." + "pythonhosted" + ".org"]
        self.assertEqual(len(list(one_machine_only("\n".join(bad)))), 3)
        self.assertEqual(list(one_machine_only("coap://d1.example.org/work/temp1\nframework/x\n./root/x\n/works/\n/root")), [])

    def test_tests_without_a_docstring_are_found(self) -> None:
        """A test that says nothing is told, other functions are not asked."""
        source = 'def test_a():\n    """Says it."""\n\ndef test_b():\n    pass\n\ndef build():\n    pass\n'
        self.assertEqual(list(undocumented_tests(source)), ["line 4: test_b does not say what it shows"])
