"""Operations over whole programs: the example of CN 104662858 with its names over its four nodes, and what becomes of operations in life.

Nodes are processes in network namespaces that speak HTTP and CoAP with each other; subjects are written with curl and with libcoap's
client; targets are nodes, libcoap's server, and a program that writes down what it is asked.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from tests.system.libcoap import coap_client
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import SMOKE, Gateway, Site
from tests.system.operating import NODES, TARGETS, House, Targets, last, lines, operate, runs, settled
from tests.system.programs import ROOT, free_port
from tests.system.test_endless_answers import peak_kb

_SKIP = skip_reason("coap-client-notls", "coap-server-notls", "curl", "ss")
_AWAY_S = 1.0 if SMOKE else 60.0
_STORM = 1_000 if SMOKE else 10_000
_BEHIND = 100
_HUNG = 20
_HEALTHY_MS = 100.0
_LEAST_ASKED = 30
"""So often `/healthz` is asked for at least: the median of a few would tell of the machine."""
_MOST_GROWTH_KB = 100 * 1024
"""One answer of 16 MiB at most, while its parts are joined, with the small ones."""
_WRONG_CRON = (
    *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8"),
    *("*/0 * * * *", "-1 * * * *", "5-1 * * * *", "1,, * * * *", "a * * * *", "* * * foo *", "0 0 31 2 *", "@reboot", "1/2/3 * * * *"),
    *("1" * 100 + " * * * *", "* " * 1000, "\u0661 * * * *", "1;2 * * * *"),
)
_SUBJECT = "/temperature"
_AC = f"{_SUBJECT}/Operations/TurnOnAC"
_CLOSE_WINDOW = {
    "name": "CloseWindow",
    "priority": 2,
    "rule": "value > 30",
    "objectResource": "http://gscl3/window",
    "method": "create",
    "inputURI": "http://gscl3/OFF",
    "outputURI": "http://gscl2/allWindowStatus",
}
_TURN_ON_AC = {
    "name": "TurnOnAC",
    "priority": 1,
    "rule": "value > 30",
    "objectResource": "http://gscl2/airCondition",
    "method": "create",
    "input": "ON",
}


def _dependency(name: str, uri: str, state: str, logic: str) -> dict[str, object]:
    return {"name": name, "uri": uri, "rule": f"value == '{state}'", "logic": logic}


_LIVINGROOM, _BEDROOM = "http://gscl1/livingroomWindowStatus", "http://gscl1/bedroomWindowStatus"
_LIVINGROOM_OPEN = _dependency("LivingroomWindowOpen", _LIVINGROOM, "Open", "OR")
_BEDROOM_OPEN = _dependency("BedroomWindowOpen", _BEDROOM, "Open", "OR")
_LIVINGROOM_CLOSED = _dependency("LivingroomWindowClosed", _LIVINGROOM, "Closed", "AND")
_BEDROOM_CLOSED = _dependency("BedroomWindowClosed", _BEDROOM, "Closed", "AND")
_MEMBER_AT_HOME = _dependency("MemberAtHome", "coap://nscl/hostLocation", "at home", "AND")


_README_ASK = 'ask() { curl -s -H "Authorization: Bearer $TOKEN" "$@"; }\n'
"""What the README defines before its examples."""


class OperationTests(SynchronousTestCase):
    """One house for all that is shown: four programs take longer to start than what they are asked takes."""

    skip = _SKIP
    _by_coap = False

    def test_house(self) -> None:
        """The document's example, ties across nodes, two operations on one target and one group, a circle, a target that is away."""
        with Site() as site:
            house = House(site)
            self.check_figure_10(house)
            self.check_figure_14(house)
            self.check_departure(house)
            self.check_elsewhere(house)
            self.check_same_target(house)
            self.check_same_group(house)
            self.check_libcoap_server(house)
            self.check_circle(house)
            self.check_away(house)
            self.check_readme(house["nscl"])

    def write(self, house: House, value: str) -> None:
        """A new temperature, by curl and by libcoap's client by turns, and all that it sets off."""
        self._by_coap = not self._by_coap
        if self._by_coap:
            uri = f"coap://[{NODES['gscl1']}]{_SUBJECT}"
            self.assertEqual(coap_client(house.hosts["nscl"], "put", uri, "-t", "0", payload=value).code, "2.04")
        else:
            options = ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", value, "-o", "/dev/null", "-w", "%{http_code}"]
            self.assertEqual(house["gscl1"].curl(_SUBJECT, *options).stdout, "204")
        settled(house["gscl1"])

    def check_figure_10(self, house: House) -> None:
        """31 degrees, a window is open, somebody is at home: the window is shut first, then the air conditioner is turned on."""
        house["gscl1"].put("/bedroomWindowStatus", "Open")
        house["nscl"].put("/hostLocation", "at home")
        window = operate(house["gscl1"], _SUBJECT, _CLOSE_WINDOW, _LIVINGROOM_OPEN, _BEDROOM_OPEN)
        operate(house["gscl1"], _SUBJECT, _TURN_ON_AC, _MEMBER_AT_HOME)
        self.write(house, "30")
        self.assertEqual((house.content("gscl3", "/window"), house.content("gscl2", "/airCondition")), ("ON", "OFF"))
        self.write(house, "31")  # 401
        self.assertEqual((house.content("gscl3", "/window"), house.content("gscl2", "/airCondition")), ("OFF", "ON"))
        closing, turning = last(house["gscl1"], window), last(house["gscl1"], _AC)  # 402
        self.assertEqual(
            lines(closing),  # 404: it has the higher priority
            [
                ("rule", "", True, None),  # 403
                ("dependency", "LivingroomWindowOpen", False, "Closed"),  # 405: 603 to 605, 607, 608
                ("dependency", "BedroomWindowOpen", True, "Open"),  # 603 to 606, 609
                ("input", "GET", "http://gscl3/OFF", None, "200"),  # 406: 502, 503, 505
                ("request", "POST", "http://gscl3/window", "OFF", "204"),  # 407, 408
                ("output", "GET", "http://gscl2/allWindowStatus", None, "200"),  # 409: 702, 704
                ("result", None, None, None, None),  # 705
            ],
        )
        self.assertEqual(
            lines(turning),  # 410
            [
                ("rule", "", True, None),
                ("dependency", "MemberAtHome", True, "at home"),  # 411
                ("request", "POST", "http://gscl2/airCondition", "ON", "204"),  # 412: 504; 413, 414
                ("result", None, None, None, None),  # 415: 702, 703
            ],
        )
        self.assertLessEqual(str(closing["at"]), str(turning["at"]))
        self.assertEqual(closing["id"], turning["id"])
        results = [house["gscl1"].get(path).json()["result"] for path in (window, _AC)]
        told = [(result["status"], result["content"]) for result in results if isinstance(result, dict)]
        self.assertEqual(told, [("200", "Closed"), ("204", "")])
        self.assertEqual(house["gscl1"].request("DELETE", window).status, 204)

    def check_figure_14(self, house: House) -> None:
        """TurnOnAC with the dependencies of figure 12 in every order: who is looked at depends on the order, what runs does not."""
        three = [_LIVINGROOM_CLOSED, _BEDROOM_CLOSED, _MEMBER_AT_HOME]
        for order in [three, three[::-1]] if SMOKE else [list(one) for one in itertools.permutations(three)]:
            names = [str(one["name"]) for one in order]
            for bedroom, looked in (("Open", names[: names.index("BedroomWindowClosed") + 1]), ("Closed", names)):
                house["gscl1"].put("/bedroomWindowStatus", bedroom)
                house["gscl1"].put_document(_AC, {**_TURN_ON_AC, "dependencies": order})
                house["gscl2"].put("/airCondition", "OFF")
                self.write(house, "31")
                told = last(house["gscl1"], _AC)
                self.assertEqual([line[1] for line in lines(told) if line[0] == "dependency"], looked)
                ran = ("ran", "ON") if bedroom == "Closed" else ("did nothing", "OFF")  # 609; 610
                self.assertEqual((told["outcome"], house.content("gscl2", "/airCondition")), ran)

    def check_departure(self, house: House) -> None:
        """An AND that does not hold does not end it where an OR behind it holds: the claims have it so, figure 14 does not."""
        sufficient = {**_MEMBER_AT_HOME, "logic": "OR"}
        house["gscl1"].put("/bedroomWindowStatus", "Open")
        house["gscl2"].put("/airCondition", "OFF")
        house["gscl1"].put_document(_AC, {**_TURN_ON_AC, "dependencies": [_BEDROOM_CLOSED, _LIVINGROOM_CLOSED, sufficient]})
        self.write(house, "31")
        looked = [line[1:3] for line in lines(last(house["gscl1"], _AC)) if line[0] == "dependency"]
        self.assertEqual(looked, [("BedroomWindowClosed", False), ("MemberAtHome", True)])
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        self.assertEqual(house["gscl1"].request("DELETE", _AC).status, 204)

    def check_elsewhere(self, house: House) -> None:
        """As figure 10 has it: the operations stand on gscl2, the subject names their collection; the result is kept where they stand."""
        path = operate(house["gscl2"], "/airCondition", {**_TURN_ON_AC, "rule": "value > 40", "objectResource": "/airCondition"})
        whole = {"content": "20", "operationURIs": ["http://gscl2/airCondition/Operations"]}
        house["gscl1"].put(_SUBJECT, json.dumps(whole), "application/vnd.m2m.resource+json")
        house["gscl2"].put("/airCondition", "OFF")
        self.write(house, "40")
        self.assertEqual(house.content("gscl2", "/airCondition"), "OFF")
        self.write(house, "41")
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        result = house["gscl2"].get(path).json()["result"]
        assert isinstance(result, dict)
        self.assertEqual(result["status"], "204")
        house["gscl1"].put(_SUBJECT, json.dumps({"content": "20", "operationURIs": []}), "application/vnd.m2m.resource+json")

    def check_same_target(self, house: House) -> None:
        """Two operations of one change on the same target both happen, by HTTP and by CoAP, the one with the higher priority first."""
        for scheme, target in (("http", f"{house.targets.http}/log"), ("coap", f"{house.targets.coap}/log")):
            for name, priority in (("low", 1), ("high", 2)):
                given = {"rule": "value == 50", "objectResource": target, "method": "create", "input": f"{scheme} {name}"}
                operate(house["gscl1"], _SUBJECT, {**given, "name": f"{scheme}-{name}", "priority": priority})
        self.write(house, "50")
        for scheme, path in (("http", "/log"), ("coap", "/t/log")):
            taken = [one.payload for one in house.targets.taken(path)]
            self.assertEqual(taken, [f"{scheme} high", f"{scheme} low"])

    def check_same_group(self, house: House) -> None:
        """Two operations of one change on the same group both reach every member, here and through the group of another node."""
        members = [f"{house.targets.coap}/lamp{number}" for number in (1, 2)]
        for name in ("gscl1", "gscl2"):
            house[name].put_document("/groups/lamps", {"members": members})
        for name, group in (("here", "/groups/lamps"), ("there", "http://gscl2/groups/lamps")):
            for word, priority in (("second", 1), ("first", 2)):
                given = {"rule": "value == 51", "objectResource": f"{group}/membersContent", "method": "create", "input": f"{name} {word}"}
                operate(house["gscl1"], _SUBJECT, {**given, "name": f"{name}-{word}", "priority": priority})
        self.write(house, "51")
        for path in ("/t/lamp1", "/t/lamp2"):
            taken = [one.payload for one in house.targets.taken(path)]
            self.assertEqual(sorted(taken), ["here first", "here second", "there first", "there second"])
            for name in ("here", "there"):
                self.assertLess(taken.index(f"{name} first"), taken.index(f"{name} second"))

    def check_libcoap_server(self, house: House) -> None:
        """A target that is libcoap's server is created, changed and read as the operations say."""
        address = f"{TARGETS[:-1]}2"
        libcoap = house.hosts["nscl"]
        libcoap.add_addresses([f"{address}/64"])
        libcoap.popen(["coap-server-notls", "-A", address, "-p", "5700", "-d", "10"])
        wait_until(lambda: "5700" in libcoap.run(["ss", "-Hlun"]).stdout, what="coap-server-notls")
        given = {"rule": "value == 52", "objectResource": f"coap://[{address}]:5700/lamp", "method": "update", "input": "ON"}
        path = operate(house["gscl1"], _SUBJECT, {**given, "name": "lamp", "outputURI": f"coap://[{address}]:5700/lamp"})
        self.write(house, "52")
        told = lines(last(house["gscl1"], path))
        self.assertEqual([(line[0], line[4]) for line in told[1:3]], [("request", "2.01"), ("output", "2.05")])
        result = house["gscl1"].get(path).json()["result"]
        assert isinstance(result, dict)
        self.assertEqual(result["content"], "ON")

    def check_circle(self, house: House) -> None:
        """A sets B sets A, by HTTP one way and by CoAP or HTTP back: each runs once, the next is stopped and says why."""
        for number, back in enumerate(("http", "coap")):
            one, other = f"/a{number}", f"/b{number}"
            house["gscl1"].put(one, "0")
            house["gscl2"].put(other, "0")
            given = {"rule": "value > 0", "method": "update"}
            there = operate(house["gscl1"], one, {**given, "name": "There", "objectResource": f"http://gscl2{other}", "input": "1"})
            home = operate(house["gscl2"], other, {**given, "name": "Back", "objectResource": f"{back}://gscl1{one}", "input": "2"})
            with _healthy(house["gscl1"]) as first, _healthy(house["gscl2"]) as second:
                house["gscl1"].put(one, "1")
                wait_until(lambda there=there: last(house["gscl1"], there).get("outcome") == "circle", 30, "the circle to be told")  # type: ignore[misc]
            why = str(last(house["gscl1"], there)["why"])
            self.assertEqual(why, f"a circle: http://gscl1{there} -> http://gscl2{home} -> http://gscl1{there}")
            self.assertEqual((house.content("gscl1", one), house.content("gscl2", other)), ("2", "1"))
            self.assertEqual([len(_ran(house["gscl1"], there)), len(_ran(house["gscl2"], home))], [1, 1])
            for times_ms in (first, second):
                self.assertLess(statistics.median(times_ms), _HEALTHY_MS)

    def check_away(self, house: House) -> None:
        """A target that is away gets its operations when it is back, the latest alone; what must not be repeated too, as nothing left."""
        house["gscl3"].put("/log", "")
        house["gscl3"].put("/kept", "")
        given = {"rule": "value in 60..69", "inputURI": _SUBJECT}
        paths = [
            operate(house["gscl1"], _SUBJECT, {**given, "name": "Set", "objectResource": "http://gscl3/kept", "method": "update"}),
            operate(house["gscl1"], _SUBJECT, {**given, "name": "Add", "objectResource": "http://gscl3/log", "method": "create"}),
        ]
        house["gscl3"].kill()
        for value in ("60", "61", "62"):
            self.write(house, value)
        self.assertEqual([last(house["gscl1"], path)["outcome"] for path in paths], ["away", "away"])
        threading.Event().wait(_AWAY_S)
        house["gscl3"].start()
        for path in paths:
            wait_until(lambda path=path: _ran(house["gscl1"], path), 2 * _AWAY_S + 90, f"{path} to run")  # type: ignore[misc]
        self.assertEqual([len(_ran(house["gscl1"], path)) for path in paths], [1, 1])
        self.assertEqual([house.content("gscl3", path) for path in ("/kept", "/log")], ["62", "62"])

    def check_readme(self, gateway: Gateway) -> None:
        """The README's example does, as it is printed, what it says."""
        section = (ROOT / "README.md").read_text().partition("## When something changes\n")[2].partition("\n## ")[0]
        blocks = [_README_ASK, *re.findall(r"```\n(.*?)```", section, re.DOTALL)]
        given = [f"TOKEN={gateway.token}", f"GATEWAY=http://127.0.0.1:{gateway.port}"]
        done = gateway.place.run(["env", *given, "sh", "-eux", "-c", "".join(blocks)])
        self.assertEqual(done.returncode, 0, done.stderr)
        for told in ('"would":"do nothing"', "MemberAtHome", "shuton", '"outcome":"ran"', "rises through 30 does not hold"):
            self.assertIn(told, done.stdout)
        self.assertRegex(str(gateway.get("/timers/night").json()["next"]), "T2[01]:00:00")


class LoadTests(SynchronousTestCase):
    def test_storm(self) -> None:
        """10,000 changes a minute of one subject: each is evaluated, each that matches acts once; another one's turn comes meanwhile."""
        with _alone() as (gateway, targets):
            given = {"rule": "value > 0", "method": "create", "input": "1"}
            for name, target in (("storm", "/count"), ("behind", "/slow"), ("quick", "/quick")):
                gateway.put(f"/{name}", "0")
                operate(gateway, f"/{name}", {**given, "name": "Act", "objectResource": f"{targets.http}{target}"})
            self.check_storm(gateway, targets)
            self.check_overtaken(gateway, targets)

    def check_storm(self, gateway: Gateway, targets: Targets) -> None:
        """Every second change matches, every fiftieth is followed by one of another subject."""
        began_s = time.monotonic()
        with gateway.caller() as caller, _healthy(gateway) as times_ms:
            for number in range(_STORM):
                self.assertEqual(caller.request("PUT", "/storm", str(number % 2), "text/plain").status, 204)
                if number % 50 == 0:
                    self.assertEqual(caller.request("PUT", "/quick", "1", "text/plain").status, 204)
        took_s = time.monotonic() - began_s
        settled(gateway, 120)
        self.assertEqual([len(targets.taken(path)) for path in ("/count", "/quick")], [_STORM // 2, _STORM // 50])
        self.assertEqual(len({one.trace for one in targets.taken("/count")}), _STORM // 2)
        self.assertLess(statistics.median(times_ms), _HEALTHY_MS)
        print(f"{_STORM} changes in {took_s:.1f} s; /healthz {statistics.median(times_ms):.1f} ms, at most {max(times_ms):.0f} ms")

    def check_overtaken(self, gateway: Gateway, targets: Targets) -> None:
        """A subject whose operations are slow is behind; one that changes later acts before it has caught up. Deleted, it acts no more."""
        with gateway.caller() as caller:
            for _ in range(_BEHIND):
                self.assertEqual(caller.request("PUT", "/behind", "1", "text/plain").status, 204)
        gateway.put("/quick", "1")
        wait_until(lambda: len(targets.taken("/quick")) > _STORM // 50, what="the quick subject's operation")
        self.assertLess(len(targets.taken("/slow")), _BEHIND)
        self.assertEqual(gateway.request("DELETE", "/behind").status, 204)
        settled(gateway)
        self.assertLess(len(targets.taken("/slow")), _BEHIND)


class BadInputTests(SynchronousTestCase):
    def test_bad_input(self) -> None:
        """Targets that misbehave, inputs that are gone, operations, timers and rules that are wrong: each is told, and nobody waits."""
        with _alone() as (gateway, targets):
            gateway.put(_SUBJECT, "0")
            self.check_refused(gateway)
            self.check_timers(gateway)
            self.check_rules(gateway)
            self.check_hanging(gateway, targets)
            self.check_answers(gateway, targets)
            self.check_itself(gateway)
            if not SMOKE:
                self.check_hung(gateway)

    def check_hanging(self, gateway: Gateway, targets: Targets) -> None:
        """More subjects than there are workers wait for targets that never answer; the next one's operation acts nevertheless."""
        given = {"rule": "value > 0", "input": "1"}
        for number in range(_HUNG):
            gateway.put(f"/hung{number}", "0")
            method = ("create", "update")[number % 2]
            operate(gateway, f"/hung{number}", {**given, "name": "Act", "method": method, "objectResource": f"{targets.http}/hang"})
        gateway.put("/beside", "0")
        operate(gateway, "/beside", {**given, "name": "Act", "method": "update", "objectResource": f"{targets.http}/beside"})
        for number in range(_HUNG):
            gateway.put(f"/hung{number}", "1")
        gateway.put("/beside", "1")
        wait_until(lambda: targets.taken("/beside"), what="the operation beside those that hang")
        self.assertEqual([last(gateway, f"/hung{number}/Operations/Act") for number in range(_HUNG)], [{}] * _HUNG)

    def check_hung(self, gateway: Gateway) -> None:
        """What hung is over after its time: what must not be repeated has failed, the other waits for its target."""
        for number, outcome in enumerate(("failed", "away")):
            path = f"/hung{number}/Operations/Act"
            wait_until(lambda path=path: last(gateway, path), 60, path)  # type: ignore[misc]
            told = last(gateway, path)
            self.assertEqual(told["outcome"], outcome)
            self.assertRegex(str(told["why"]), "no answer within 30 s")

    def check_answers(self, gateway: Gateway, targets: Targets) -> None:
        """100 MB are not taken in, a redirection is not followed, what is gone is said to be; each is the operation's result."""
        given: dict[str, object] = {"rule": "value > 0", "method": "update", "input": "1"}
        fine = f"{targets.http}/fine"
        wrong: dict[str, tuple[dict[str, object], str, str]] = {
            "flood": ({"objectResource": f"{targets.http}/flood"}, "failed", "more than 16777216 bytes"),
            "redirect": ({"objectResource": f"{targets.http}/redirect"}, "failed", "the target answered 302"),
            "input": ({"objectResource": fine, "input": None, "inputURI": "/gone"}, "failed", "there is no input: 4.04"),
            "output": ({"objectResource": fine, "outputURI": "/gone"}, "ran", "its output could not be read: 4.04"),
            "nobody": ({"objectResource": "http://nobody.invalid/x"}, "away", "nobody knows the host nobody.invalid"),
        }
        before_kb = peak_kb(gateway)
        for name, (more, _, _) in wrong.items():
            whole = {key: value for key, value in {**given, **more, "name": name}.items() if value is not None}
            operate(gateway, _SUBJECT, whole)
        gateway.put(_SUBJECT, "1")
        for name, (_, outcome, why) in wrong.items():
            path = f"{_SUBJECT}/Operations/{name}"
            wait_until(lambda path=path: runs(gateway, path), 60, path)  # type: ignore[misc]
            told = runs(gateway, path)[0]
            self.assertEqual(told["outcome"], outcome, told)
            self.assertIn(why, str(told["why"]))
        self.assertEqual(targets.taken("/never"), [])
        self.assertLess(peak_kb(gateway) - before_kb, _MOST_GROWTH_KB)
        for name in wrong:
            self.assertEqual(gateway.request("DELETE", f"{_SUBJECT}/Operations/{name}").status, 204)

    def check_itself(self, gateway: Gateway) -> None:
        """An operation on its own subject is saved with a warning, and ends at its second turn."""
        gateway.put("/self", "0")
        given = {"name": "Act", "rule": "value > 0", "method": "update", "objectResource": "/self", "input": "2"}
        made = gateway.request("POST", "/self/Operations", json.dumps(given), "application/json")
        self.assertIn("a circle", str(made.json()["warnings"]))
        gateway.put("/self", "1")
        wait_until(lambda: last(gateway, "/self/Operations/Act").get("outcome") == "circle", what="the circle to be told")
        self.assertEqual([run["outcome"] for run in runs(gateway, "/self/Operations/Act")], ["circle", "ran"])

    def check_refused(self, gateway: Gateway) -> None:
        """An operation that is wrong is refused with the field that is wrong, and is not there."""
        fine = {"name": "x", "rule": "value > 0", "objectResource": "/x", "method": "update", "input": "1"}
        for field, more in (
            ("rule", {"rule": "value >"}),
            ("rule", {"rule": "text > 3"}),
            ("rule", {"rule": "value > 'a'"}),
            ("rule", {"rule": "("}),
            ("rule", {"rule": "value > 1 or " * 100 + "value > 1"}),
            ("rule", {"rule": "not (value > 1 or " * 20 + "value > 1" + ")" * 20}),
            ("objectResource", {"objectResource": "ftp://x/y"}),
            ("objectResource", {"objectResource": "x"}),
            ("method", {"method": "PUT"}),
            ("input", {"inputURI": "/y"}),
            ("input", {"method": "delete"}),
            ("priority", {"priority": "high"}),
            ("for", {"for": "a while"}),
            ("expiry", {"expiry": "-1h"}),
            ("colour", {"colour": "red"}),
            ("dependencies", {"dependencies": [{"uri": "/x", "rule": "value > 0"}]}),
        ):
            reply = gateway.request("POST", f"{_SUBJECT}/Operations", json.dumps({**fine, **more}), "application/json")
            self.assertEqual(reply.status, 400, (more, reply))
            self.assertIn(field, reply.body.decode())
        self.assertEqual(gateway.get(f"{_SUBJECT}/Operations").json()["children"], [])

    def check_timers(self, gateway: Gateway) -> None:
        """Cron lines of every wrong kind, and what else a timer must not be."""
        wrong: list[dict[str, str]] = [{"cron": line} for line in _WRONG_CRON]
        wrong += [{"cron": "0 22 * * *", "timezone": zone} for zone in ("Mars/Olympus", "../../etc/passwd", "", "Europe/Berlin\x00")]
        wrong += [{"every": every} for every in ("", "0s", "-5m", "often", "1e99s")]
        wrong += [{"at": at} for at in ("", "tomorrow", "2027-13-01T00:00:00Z", "2027-01-01")]
        wrong += [{}, {"cron": "0 22 * * *", "every": "15m"}, {"every": "15m", "missed": "perhaps"}, {"every": "15m", "colour": "red"}]
        for one in wrong:
            reply = gateway.request("PUT", "/timers/wrong", json.dumps(one), "application/json")
            self.assertEqual(reply.status, 400, (one, reply))
        self.assertEqual(gateway.get("/timers").json()["children"], [])

    def check_rules(self, gateway: Gateway) -> None:
        """Patterns on which others take exponential time, and fields that are not there, cost nothing and hold nothing up."""
        given = {"objectResource": "/x", "method": "update", "input": "1"}
        rules = {
            "stars": "value matches '" + "*a" * 200 + "b'",
            "marks": "value matches '" + "*?" * 200 + "b'",
            "either": " or ".join(["value matches '*a*a*a*b'"] * 30),
            "nots": "not " * 8 + "value matches '*b'",
            "field": "json.temp > 30",
            "number": "value > 30",
        }
        paths = {name: operate(gateway, _SUBJECT, {**given, "name": name, "rule": rule}) for name, rule in rules.items()}
        with _healthy(gateway) as times_ms:
            for _ in range(20):
                gateway.put(_SUBJECT, "a" * 4096)
            settled(gateway)
        for name, why in (("stars", "does not hold"), ("field", "is not JSON"), ("number", "not a number")):
            self.assertIn(why, str(last(gateway, paths[name])["why"]))
        self.assertEqual({str(last(gateway, path)["outcome"]) for path in paths.values()}, {"did nothing"})
        self.assertLess(statistics.median(times_ms), _HEALTHY_MS)
        for path in paths.values():
            self.assertEqual(gateway.request("DELETE", path).status, 204)


@contextmanager
def _alone() -> Iterator[tuple[Gateway, Targets]]:
    """One node and targets on this machine's loopback."""
    with Site(namespaces=False) as site:
        targets = Targets(site.here, site.folder, "127.0.0.1", free_port(), free_port())
        gateway = site.gateway_here("gw", {"triggers": {}})
        gateway.start()
        targets.ready()
        yield gateway, targets


def _ran(gateway: Gateway, path: str) -> list[dict[str, object]]:
    return [run for run in runs(gateway, path) if run["outcome"] == "ran"]


@contextmanager
def _healthy(gateway: Gateway) -> Iterator[list[float]]:
    """While this lasts `/healthz` is asked for again and again; how many milliseconds each answer took."""
    times_ms: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with gateway.caller() as caller:
            while not over.wait(0.01) or len(times_ms) < _LEAST_ASKED:
                began_s = time.monotonic()
                assert caller.request("GET", "/healthz").status == 200
                times_ms.append((time.monotonic() - began_s) * 1000)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield times_ms
    finally:
        over.set()
        asking.join(60)
