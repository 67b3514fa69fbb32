"""The configuration file: what is taken, and every fault of it at once."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import fields
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.parameters import Limits
from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import EXIT_CONFIG, BadConfiguration, Peer, Settings, clashes, load, read
from m2mapp.dhcpv6.settings import DelegatingSettings, DownlinkSettings, UplinkSettings
from m2mapp.groups.settings import GroupSettings
from m2mapp.http.settings import HttpSettings
from m2mapp.http.tokens import TokenSetting
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.principal import Role

ROOT = Path(__file__).resolve().parent.parent.parent
LEAST = '[node]\nname = "g1"\nstate_dir = "/var/lib/m2mapp"\n[coap]\ninterfaces = ["eth1"]\n'


def settings(text: str) -> Settings:
    """The settings that a text makes; raises `AssertionError` with the faults where there are any."""
    found, faults = read(tomllib.loads(text))
    assert found is not None, faults
    return found


def faults(text: str) -> list[str]:
    """The faults of a text, as they are told."""
    found, told = read(tomllib.loads(text))
    assert (found is None) == bool(told)
    return [fault.detail for fault in told]


class TakenTests(SynchronousTestCase):
    def test_the_least(self) -> None:
        """A name, a state directory and an edge are enough; everything else has its default, and no other role is on."""
        found = settings('[node]\nname = "G1.example.org"\nstate_dir = "/s"\n[coap]\n')
        self.assertEqual((found.node.name, found.node.aliases, found.node.state_dir), ("g1.example.org", (), "/s"))
        self.assertEqual(found.coap, CoapSettings((("::", 5683), ("0.0.0.0", 5683)), (), AccessSettings()))  # noqa: S104 - the default
        self.assertEqual((found.http, found.groups, found.member, found.sim, found.peers), (None, None, False, None, ()))

    def test_everything(self) -> None:
        """Every key of every table arrives."""
        found = settings(
            LEAST.replace('interfaces = ["eth1"]', "")
            + """listen = ["[fd00::1]:5684", "192.0.2.1:0"]
            interfaces = ["eth1", "wlan0"]
            [coap.access]
            read = ["link", "fd00::/64"]
            register = []
            advertise = ["leases"]
            write = ["192.0.2.0/24"]
            [http]
            listen = ["tcp:8080:interface=127.0.0.1", "tcp6:8081"]
            [[http.tokens]]
            name = "ops"
            role = "operator"
            token_file = "/t"
            scopes = ["/groups"]
            [groups]
            local_pool = ["ff35:30:3ffe:ffff:1::8000:0/112", "239.1.0.0/24"]
            multicast_threshold = 3
            address_per_set = true
            deadline_s = 5
            global_pool = ["ff3e:30:3ffe:ffff:1::8000:0/112", "232.1.1.0/24"]
            subgroup_threshold = 4
            virtual_uri = "/v/{group}/x"
            request_id = "always"
            [member]
            [peers.n1]
            uri = "HTTP://n1.example.com:80"
            token_file = "/p"
            [peers.n2]
            uri = "coap://[fd00::2]"
            """
        )
        self.assertEqual(
            found.coap,
            CoapSettings(
                (("fd00::1", 5684), ("192.0.2.1", 0)),
                ("eth1", "wlan0"),
                AccessSettings(("link", "fd00::/64"), (), ("leases",), ("192.0.2.0/24",)),
            ),
        )
        token = TokenSetting("ops", Role.OPERATOR, "/t", (("groups",),))
        self.assertEqual(found.http, HttpSettings(("tcp:8080:interface=127.0.0.1", "tcp6:8081"), (token,)))
        assert found.groups is not None
        self.assertEqual([str(network) for network in found.groups.local_pool], ["ff35:30:3ffe:ffff:1:0:8000:0/112", "239.1.0.0/24"])
        self.assertEqual([str(network) for network in found.groups.global_pool], ["ff3e:30:3ffe:ffff:1:0:8000:0/112", "232.1.1.0/24"])
        pools = found.groups.local_pool, found.groups.global_pool
        self.assertEqual(found.groups, GroupSettings(pools[0], 3, True, 5.0, pools[1], "", 4, "/v/{group}/x", request_id="always"))
        self.assertTrue(found.member)
        self.assertEqual(found.peers, (Peer("n1", "http://n1.example.com/", "/p"), Peer("n2", "coap://[fd00::2]/", "")))

    def test_where_http_is(self) -> None:
        """The addresses of the endpoints, for the node's own URIs: those that say them."""
        listen = [
            "tcp:8080:interface=127.0.0.1",
            "tcp6:port=81",
            "tcp:82:backlog=5",
            "tcp6:83:interface=\\:\\:1",
            "unix:/s",
            "systemd:domain=INET:index=0",
        ]
        self.assertEqual(HttpSettings(tuple(listen)).addresses(), [("127.0.0.1", 8080), ("::", 81), ("0.0.0.0", 82), ("::1", 83)])  # noqa: S104 - what tcp means

    def test_the_example(self) -> None:
        """etc/gateway.toml is a configuration, and shows every key that there is."""
        file = ROOT / "etc" / "gateway.toml"
        found = load(str(file))
        self.assertEqual(found.node.name, "g1.example.org")
        shown = tomllib.loads(file.read_text())
        self.assertEqual(sorted(shown["groups"]), sorted(field.name for field in fields(GroupSettings)))
        keys = ["coaps", "interfaces", "listen", "source_bytes_per_s", "source_requests_per_s", "unproven"]
        self.assertEqual(sorted({*shown["coap"]} - {"access"}), keys)
        self.assertEqual(found.coap.limits if found.coap is not None else None, Limits())
        self.assertEqual(sorted(shown["coap"]["coaps"]), ["certificate", "client_ca", "key", "listen", "server_ca"])
        self.assertEqual(sorted(shown["coap"]["access"]), sorted(field.name for field in fields(AccessSettings)))
        self.assertEqual(sorted(shown["node"]), sorted(field.name for field in fields(type(found.node))))
        self.assertEqual(found.groups, GroupSettings())
        self.assertEqual(found.http, HttpSettings())

    def test_the_roles_of_the_example(self) -> None:
        """With its comments taken away each role of the example is on: its keys are known, its values good; only its files are missing."""
        shown = re.sub(r"(?m)^# (?=\[|[a-z0-9_]+ = )", "", (ROOT / "etc" / "gateway.toml").read_text())
        tables = tomllib.loads(shown)
        dhcpv6 = tables["dhcpv6"]
        kinds = (
            (dhcpv6["uplink"], UplinkSettings),
            (dhcpv6["downlink"], DownlinkSettings),
            (dhcpv6["delegating"], DelegatingSettings),
            (tables["report"], ReportSettings),
            (tables["bootstrap"], BootstrapSettings),
            (tables["device"], DeviceSettings),
        )
        for table, kind in kinds:
            known = {"format" if field.name == "format_number" else field.name for field in fields(kind)}
            self.assertEqual({*table}, known, kind.__name__)
        told = faults(shown.replace("/etc/m2mapp/", "/no/such/"))
        self.assertEqual([fault for fault in told if "/no/such/" not in fault], [])
        self.assertEqual(len(told), 4, told)


class DeviceTests(SynchronousTestCase):
    def test_device(self) -> None:
        """A device needs no address to listen at, and may say where the bootstrap options stand."""
        settings, told = read(
            {
                "node": {"name": "d1.example.org"},
                "coap": {"listen": [], "interfaces": ["eth0"]},
                "device": {"interface": "eth0", "endpoint": "d1"},
                "dhcpv6": {"options": {"encodings": ["vendor"], "vendor_enterprise": 4491}},
            }
        )
        assert settings is not None
        assert settings.dhcpv6 is not None
        self.assertEqual((told, settings.device, settings.dhcpv6.codes.in_vendor), ([], DeviceSettings("eth0", "d1"), True))

    def test_beside_an_uplink(self) -> None:
        """A node may be a device on one link and a requesting router on another (spec section 1)."""
        tables = {"coap": {}, "device": {"interface": "eth0", "endpoint": "d1"}, "dhcpv6": {"uplink": {"interface": "eth1"}}}
        settings, told = read({"node": {"name": "d1.example.org"}, **tables})
        self.assertEqual((told, settings is not None), ([], True))

    def test_faults(self) -> None:
        """Without CoAP, on the interface of another role, or with nothing to listen at and no device: each is told."""
        node, device = {"name": "d1.example.org"}, {"interface": "eth0", "endpoint": "d1"}
        cases: dict[str, dict[str, object]] = {
            "[device]: a table without [coap]": {"http": {}, "device": device},
            "[device] interface": {"coap": {}, "device": device, "dhcpv6": {"uplink": {"interface": "eth0"}}},
            "[coap] listen": {"coap": {"listen": []}},
            "[dhcpv6]": {"coap": {}, "dhcpv6": {"options": {}}},
        }
        for where, tables in cases.items():
            with self.subTest(where):
                settings, told = read({"node": node, **tables})
                self.assertIsNone(settings)
                self.assertEqual([fault.detail[: len(where)].replace("'", "") for fault in told], [where], told)


class FaultTests(SynchronousTestCase):
    def test_all_at_once(self) -> None:
        """Every fault of every table is told, each with table and key."""
        told = faults(
            """
            [node]
            name = "-bad-"
            state_dir = "relative"
            colour = "red"
            [coap]
            listen = ["5683", "[::]:99999"]
            interfaces = "eth1"
            coaps = { colour = "red" }
            [coap.access]
            write = ["everybody"]
            [http]
            listen = ["nonsense"]
            [groups]
            local_pool = ["fd00::/64"]
            multicast_threshold = 0
            deadline_s = "long"
            virtual_uri = "/x"
            [member]
            key = 1
            [peers.n1]
            token_file = 7
            [peers]
            n2 = "http://n2/"
            [operations]
            """.replace("            ", "").replace("[peers]\nn2", "[peers.n3]\nn2")
        )
        places = {line.partition(":")[0] for line in told}
        self.assertEqual(
            places,
            {
                *("[node] name", "[node] state_dir", "[node] colour"),
                *("[coap] listen[0]", "[coap] listen[1]", "[coap] interfaces", "[coap] coaps.colour", "[coap] access.write[0]"),
                *(
                    "[http] listen[0]",
                    "[groups] local_pool[0]",
                    "[groups] multicast_threshold",
                    "[groups] deadline_s",
                    "[groups] virtual_uri",
                ),
                *("[member] key", "[peers.n1] uri", "[peers.n1] token_file", "[peers.n3] uri", "[peers.n3] n2", "[operations]"),
            },
        )

    def test_each_value(self) -> None:
        """What is out of range or of another type is told with the value and what would be right."""
        for text, expected in (
            ("[groups]\nmulticast_threshold = 0", "[groups] multicast_threshold: 0 is not a whole number from 1 to 10000"),
            ("[groups]\nmulticast_threshold = true", "[groups] multicast_threshold: True is not a whole number from 1 to 10000"),
            ("[groups]\ndeadline_s = 0", "[groups] deadline_s: 0 is not a number from 0.1 to 3600"),
            ("unproven = 'ask'", "[coap] unproven: ask is not one of 'echo', 'blocks', 'trust'"),
            ("source_requests_per_s = 0", "[coap] source_requests_per_s: 0 is not a whole number from 1 to 1000000"),
            ("source_bytes_per_s = 10", "[coap] source_bytes_per_s: 10 is not a whole number from 1000 to 1000000000"),
            ("[groups]\naddress_per_set = 1", "[groups] address_per_set: 1 is not true or false"),
            ('[groups]\nrequest_id = "never"', "[groups] request_id: never is not one of 'auto', 'always'"),
            ('[groups]\nadvertise = "all"', "[groups] advertise: all is not one of 'unicast', 'multicast', 'broadcast'"),
            (
                '[groups]\nadvertise = "multicast"',
                "[groups] advertise_group:  is not the name of the group that devices joined beforehand (advertise)",
            ),
            ('[groups]\nlocal_pool = "ff35::/112"', "[groups] local_pool: ff35::/112 is not a list of 0 to 16"),
        ):
            self.assertEqual(faults(LEAST + text), [expected])
        self.assertIn("within ff00::/8", faults(LEAST + '[groups]\nlocal_pool = ["fd00::/112"]')[0])
        self.assertIn("has host bits set", faults(LEAST + '[groups]\nlocal_pool = ["ff35::1/112"]')[0])

    def test_addresses_of_groups(self) -> None:
        """Global addresses are of global scope and in no other pool; who has some asks nobody; virtual URIs bear the group's name."""
        for text, expected in (
            ('global_pool = ["ff35::/112"]', "[groups] global_pool[0]: ff35::/112 is not a range of global scope"),
            ('global_pool = ["ff00::/8"]', "[groups] global_pool[0]: ff00::/8 is not a range of global scope"),
            ('global_pool = ["239.1.0.0/24"]', "[groups] global_pool[0]: 239.1.0.0/24 is not a range of global scope"),
            ('global_pool = ["224.0.0.0/28"]', "[groups] global_pool[0]: 224.0.0.0/28 is not a range of global scope"),
            ('global_pool = ["fd00::/64"]', "[groups] global_pool[0]: fd00::/64 is not a range of multicast addresses"),
            ('address_server = "n1"', "[groups] address_server: n1 is not a URI such as"),
            ('address_server = "http://n1/"', "[groups] address_server: http://n1/ is not the URI of a pool"),
            ("address_server = 7", "[groups] address_server: 7 is not a URI such as"),
            ('virtual_uri = "well-known/{group}"', "[groups] virtual_uri: well-known/{group} is not a path"),
            ('virtual_uri = "/well-known"', "[groups] virtual_uri: /well-known is not a path one segment of which is {group}"),
            ('virtual_uri = "/{group}/{group}"', "[groups] virtual_uri: /{group}/{group} is not a path one segment"),
            ('virtual_uri = "/x-{group}"', "[groups] virtual_uri: /x-{group} is not a path one segment"),
            (f'virtual_uri = "/{{group}}{("/" + "x" * 200) * 3}"', "is not a path of at most 512 bytes"),
            ("virtual_uri = 1", "[groups] virtual_uri: 1 is not a path"),
            ("subgroup_threshold = 0", "[groups] subgroup_threshold: 0 is not a whole number from 1"),
        ):
            [line] = faults(LEAST + "[groups]\n" + text)
            self.assertIn(expected, line)
        both = '[groups]\nlocal_pool = ["ff3e::/112"]\nglobal_pool = ["ff3e::8000/113", "232.0.0.0/24"]\naddress_server = "http://n1/mcAddrPool"'
        told = faults(LEAST + both)
        self.assertEqual([line.partition(":")[0] for line in told], ["[groups] global_pool", "[groups] address_server"])
        self.assertIn("apart from local_pool, which has ff3e::/112", told[0])

    def test_tables_that_are_none(self) -> None:
        """A value where a table has to be is told, for each table."""
        told = faults('node = 1\nhttp = "x"\ncoap = []\ngroups = 1\nmember = true\npeers = 2\nsim = 3')
        self.assertEqual(
            [line.partition(":")[0] for line in told],
            [f"[{name}]" for name in ("node", "http", "coap", "groups", "member", "sim", "peers")],
        )
        self.assertEqual(faults(LEAST + '[peers]\nn1 = "http://n1/"'), ["[peers] n1: http://n1/ is not a table"])
        self.assertIn("[coap] access: 7 is not a table", faults('[node]\nname = "g"\n[coap]\naccess = 7'))

    def test_between_tables(self) -> None:
        """Roles that need another one say so; a node that nobody could reach is none."""
        node = '[node]\nname = "g1"\nstate_dir = "/s"\n'
        self.assertEqual(len(faults(node)), 1)
        self.assertIn("reachable", faults(node)[0])
        self.assertIn("[groups]", faults(node + "[http]\n[groups]\n")[0])
        self.assertIn("[member]", faults(node + "[http]\n[member]\n")[0])
        self.assertIn("[bootstrap]", faults(node + "[http]\n[bootstrap]\n")[0])
        self.assertIn("[coap] interfaces", faults(node + "[coap]\n[groups]\n")[0])
        self.assertIn(
            "[sim] registrar", faults(node + '[http]\n[sim]\nmodel = "temperature"\nendpoint = "e"\nregistrar = "coap://g/rd"\n')[0]
        )

    def test_report(self) -> None:
        """A report needs devices to report, a way, a peer that is there and speaks HTTP, and a port of its own."""
        downlink = '[dhcpv6.downlink]\ninterfaces = ["eth1"]\nprefix = "2001:db8:5::/48"\n'
        peers = '[peers.bs]\nuri = "http://bs"\n[peers.c]\nuri = "coap://c"\n'
        taken = settings(LEAST + downlink + peers + '[report]\npush = "bs"\nserver = "coaps://bs.example.org"\n').report
        self.assertEqual((taken and taken.push, taken and taken.server), ("bs", "coaps://bs.example.org/"))
        itself = '[report]\nlwm2m = false\npush = "g1"\n'
        self.assertIn("[report] push", faults(LEAST + downlink + itself)[0])
        both = settings(LEAST + downlink + itself + "[bootstrap]\n").report
        self.assertEqual(both and both.push, "g1")
        cases = {
            "lwm2m = false": "[report] lwm2m",
            'lwm2m = false\npush = "bs"\nserver = "coap://x"': "[report] server",
            'push = "x"': "[report] push",
            'push = "c"': "[report] push",
            "port = 5683": "[report] port",
            'server = "http://bs"': "[report] server",
            'server = "coap://bs/rd"': "[report] server",
            "batch_s = -1": "[report] batch_s",
            "lifetime_s = 1": "[report] lifetime_s",
            "more = 1": "[report] more",
        }
        for text, key in cases.items():
            with self.subTest(text):
                told = faults(LEAST + downlink + peers + "[report]\n" + text)
                self.assertEqual([line.partition(":")[0] for line in told], [key])
        self.assertIn("[dhcpv6.downlink]", faults(LEAST + "[report]\n")[0])
        two = [
            settings(LEAST.replace("/var", place).replace("[coap]", f'[coap]\nlisten = ["[::]:{port}"]') + downlink + "[report]\n")
            for place, port in (("/a", 1), ("/b", 2))
        ]
        self.assertEqual(clashes(dict(zip("ab", two, strict=True))), ["b: [report] port: 5685 is that of a; each node has its own"])

    def test_bootstrap_certificates(self) -> None:
        """A plan that asks for certificates, where coaps does not verify any, is told with its file."""
        with tempfile.TemporaryDirectory() as folder:
            plan = 'default = true\nidentity = "certificate"\n[[servers]]\nshortId = 1\nuri = "coap://m"\n'
            Path(folder, "all.toml").write_text(plan)
            told = faults(LEAST + f'[bootstrap]\nplans = "{folder}"\n')
            self.assertEqual(len(told), 1)
            self.assertIn("all.toml: identity: certificate is not used without [coap] coaps and its client_ca", told[0])

    def test_nothing(self) -> None:
        """An empty file needs its first table."""
        self.assertEqual(faults(""), ["[node]: nothing is not left out: name and state_dir are needed"])

    def test_files(self) -> None:
        """A file that is not there, not TOML or not UTF-8 is named; so is one with faults, each line by itself."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        for name, content, expected in (
            ("none.toml", None, "cannot be read: No such file or directory"),
            ("bad.toml", b"[node", "is not TOML"),
            ("binary.toml", b"\xff\xfe", "is not TOML"),
            ("faults.toml", b'[node]\nname = "g1"\n', "a node without [http] and [coap]"),
        ):
            file = folder / name
            if content is not None:
                file.write_bytes(content)
            bad = self.assertRaises(BadConfiguration, load, str(file))
            self.assertEqual(len(bad.lines), 1)
            self.assertTrue(bad.lines[0].startswith(f"{file}: "), bad.lines)
            self.assertIn(expected, bad.lines[0])

    def test_two_nodes_of_one_process(self) -> None:
        """Nodes of one process have each their own state directory and port; a port that the system chooses is nobody's."""
        one, two = settings(LEAST), settings(LEAST.replace("/var/lib/m2mapp", "/other").replace("[coap]", '[coap]\nlisten = ["[::]:0"]'))
        self.assertEqual(
            clashes(
                {"a": one, "b": two, "c": settings(LEAST.replace("/var/lib/m2mapp", "/c").replace("[coap]", '[coap]\nlisten = ["[::]:0"]'))}
            ),
            [],
        )
        told = clashes({"a": one, "b": one})
        self.assertEqual(len(told), 3)
        self.assertEqual(told[0], "b: [node] state_dir: /var/lib/m2mapp is that of a; each node has its own")


class CommandTests(SynchronousTestCase):
    def check(self, *arguments: str) -> tuple[int, str]:
        """`twistd m2m ARGUMENTS --check`: the exit code and standard error."""
        command = [sys.executable, "-m", "twisted", "m2m", *arguments, "--check"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    def test_a_good_file(self) -> None:
        """0, and not a word."""
        self.assertEqual(self.check("--config", "etc/gateway.toml"), (0, ""))

    def test_bad_files(self) -> None:
        """78, and every fault of every file on standard error, one a line."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        (folder / "a.toml").write_text('[node]\nname = "g1"\ncolour = 1\n[coap]\nlisten = ["x"]\n')
        (folder / "b.toml").write_text("[node")
        (folder / "c.txt").write_text("no configuration")
        code, told = self.check("--config", str(folder), "--config", str(folder / "none.toml"))
        self.assertEqual(code, EXIT_CONFIG)
        lines = told.strip().splitlines()
        self.assertEqual(len(lines), 4, told)
        self.assertTrue(all(line.startswith("m2m: ") for line in lines), told)
        self.assertIn("a.toml: [node] colour", told)
        self.assertIn("none.toml: cannot be read", told)

    def test_an_empty_directory(self) -> None:
        """A directory without configuration files is a fault, too."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        code, told = self.check("--config", str(folder))
        self.assertEqual((code, told), (EXIT_CONFIG, f"m2m: {folder}: no *.toml file is there\n"))
