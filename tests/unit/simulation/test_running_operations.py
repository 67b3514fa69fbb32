"""Operations on whole nodes: order, `for` and `holdoff`, rights, circles, what would happen, targets that are away, groups."""

from __future__ import annotations

import json
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault
from m2mapp.model.messages import Method
from m2mapp.model.principal import Principal, Right
from m2mapp.triggers.settings import TriggerSettings
from tests.simulation import Simulation, seeded
from tests.unit.simulation.house import (
    MEMBER_AT_HOME,
    TURN_ON_AC,
    House,
)
from tests.unit.simulation.world import GATEWAY_ADDRESS, Site, build_box, gateway_settings, member_settings


class OrderTests(SynchronousTestCase):
    """What runs when, and what is there when it is asked for."""

    @seeded(2)
    def test_same_target(self, simulation: Simulation) -> None:
        """Two operations of one change on the same target both happen, the one with the higher priority first."""
        house = House(simulation, ("gscl1", "gscl2"))
        house.write("gscl1", "/temperature", b"20")
        for name, priority in (("Low", 1), ("High", 2)):
            given = {"name": name, "priority": priority, "rule": "value > 30", "method": "create", "input": name}
            house.operate({**given, "objectResource": "coap://gscl2/log"})
        house.write("gscl2", "/log", b"")
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/log"), "Low")
        self.assertEqual([house.last(f"/temperature/Operations/{name}")["outcome"] for name in ("High", "Low")], ["ran", "ran"])
        house.stop()

    @seeded(3)
    def test_each_against_its_own_content(self, simulation: Simulation) -> None:
        """Changes that come while operations run are evaluated in order, each by its own content: none is lost, none sees a later one."""
        house = House(simulation, ("gscl1", "gscl2"))
        house.write("gscl1", "/temperature", b"20")
        house.write("gscl2", "/log", b"")
        house.write("gscl2", "/log/odd", b"")
        hot = {"name": "Hot", "rule": "value in 31..39", "objectResource": "coap://gscl2/log", "method": "create", "input": "hot"}
        cold = {"name": "Cold", "rule": "value < 10", "objectResource": "coap://gscl2/log", "method": "create", "input": "cold"}
        paths = [house.operate(hot), house.operate(cold)]
        contents = [b"31", b"5", b"32", b"6", b"20", b"33"]
        answers = [house["gscl1"].send(Method.PUT, "/temperature", content) for content in contents]
        house.scheduler.advance(2.0)
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual([house["gscl1"].read(path)["runs"] for path in paths], [3, 2])
        runs = house["gscl1"].read(f"{paths[0]}/runs")["runs"]
        assert isinstance(runs, list)
        self.assertEqual([run["content"] for run in runs], ["33", "32", "31"])
        self.assertEqual(house.content("gscl2", "/log"), "hot")
        house.stop()

    @seeded()
    def test_for(self, simulation: Simulation) -> None:
        """With `for` it runs once, when the rule has held so long; a break begins it anew, and a restart does not."""
        house = House(simulation, ("gscl1",))
        for path in ("/temperature", "/fan"):
            house.write("gscl1", path, b"0")
        path = house.operate(
            {"name": "Fan", "rule": "value > 30", "objectResource": "/fan", "method": "update", "input": "on", "for": "5m"}
        )
        house.write("gscl1", "/temperature", b"31")
        house.scheduler.advance(200)
        house.write("gscl1", "/temperature", b"29")
        house.write("gscl1", "/temperature", b"31")
        house.scheduler.advance(200)
        self.assertEqual(house.content("gscl1", "/fan"), "0")
        house["gscl1"].kill()
        house["gscl1"].start()
        house.scheduler.advance(99)
        self.assertEqual(house.content("gscl1", "/fan"), "0")
        house.scheduler.advance(2)
        self.assertEqual(house.content("gscl1", "/fan"), "on")
        house.write("gscl1", "/temperature", b"32")
        house.scheduler.advance(400)
        self.assertEqual(house["gscl1"].read(path)["runs"], 1)
        house.stop()

    @seeded()
    def test_holdoff(self, simulation: Simulation) -> None:
        """With `holdoff` it rests after it ran, over a restart too, and says how long."""
        house = House(simulation, ("gscl1",))
        for path in ("/temperature", "/fan"):
            house.write("gscl1", path, b"0")
        path = house.operate(
            {"name": "Fan", "rule": "value > 30", "objectResource": "/fan", "method": "update", "input": "on", "holdoff": "1h"}
        )
        for _ in range(3):
            house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house["gscl1"].read(path)["runs"], 1)
        self.assertIn("rests for", str(house.last(path)["why"]))
        house["gscl1"].kill()
        house["gscl1"].start()
        house.scheduler.advance(1)
        house.write("gscl1", "/fan", b"0")
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl1", "/fan"), "0")
        house.scheduler.advance(3600)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl1", "/fan"), "on")
        house.stop()

    @seeded()
    def test_timer_is_a_subject(self, simulation: Simulation) -> None:
        """An operation of a timer runs when it fires."""
        house = House(simulation, ("gscl1",))
        house.write("gscl1", "/fan", b"0")
        house["gscl1"].ask(Method.PUT, "/timers/often", {"every": "15m"})
        house.operate(
            {"name": "Fan", "rule": "value exists", "objectResource": "/fan", "method": "update", "input": "on"}, subject="/timers/often"
        )
        house.scheduler.advance(899)
        self.assertEqual(house.content("gscl1", "/fan"), "0")
        house.scheduler.advance(10)
        self.assertEqual(house.content("gscl1", "/fan"), "on")
        house.stop()

    @seeded()
    def test_subject_takes_its_operations_along(self, simulation: Simulation) -> None:
        """Deleting a subject deletes its operations; one that is made anew has none."""
        house = House(simulation, ("gscl1",))
        for path in ("/temperature", "/fan"):
            house.write("gscl1", path, b"0")
        path = house.operate({"name": "Fan", "rule": "value > 30", "objectResource": "/fan", "method": "update", "input": "on"})
        house["gscl1"].ask(Method.DELETE, "/temperature")
        self.assertRaises(Fault, house["gscl1"].ask, Method.GET, path)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl1", "/fan"), "0")
        house.stop()


class RightTests(SynchronousTestCase):
    """An operation has the rights of who last wrote it."""

    @seeded()
    def test_rights_of_the_writer(self, simulation: Simulation) -> None:
        """It may do on its own node what its writer may, and no more; who writes its dependency has written it."""
        house = House(simulation, ("gscl1",))
        for path in ("/temperature", "/secret", "/fan"):
            house.write("gscl1", path, b"0")
        reader = Principal("coap:fd00::9", frozenset({Right.READ, Right.WRITE}), (("temperature",), ("fan",)))
        fan = {"rule": "value > 30", "objectResource": "/fan", "method": "update", "input": "on"}
        secret = {**fan, "objectResource": "/secret"}
        for name, given in (("Fan", fan), ("Secret", secret)):
            house["gscl1"].ask(Method.PUT, f"/temperature/Operations/{name}", given, principal=reader)
        house["gscl1"].ask(Method.PUT, "/temperature/Operations/Mine", secret)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual((house.content("gscl1", "/fan"), house.content("gscl1", "/secret")), ("on", "on"))
        self.assertIn("4.03", str(house.last("/temperature/Operations/Secret")["why"]))
        peek = {"uri": "/secret", "rule": "value == 'on'"}
        house["gscl1"].ask(Method.PUT, "/temperature/Operations/Mine/Dependencies/Peek", peek, principal=reader)
        house.write("gscl1", "/temperature", b"31")
        last = house.last("/temperature/Operations/Mine")
        self.assertEqual(last["outcome"], "did nothing")
        self.assertIn("4.03", str(last["steps"]))
        house.stop()


class CircleTests(SynchronousTestCase):
    """Operations that lead back to their subject."""

    @seeded(2)
    def test_over_two_nodes(self, simulation: Simulation) -> None:
        """A sets B sets A: each runs once, the next is stopped and says so."""
        house = House(simulation, ("gscl1", "gscl2"))
        house.write("gscl1", "/a", b"0")
        house.write("gscl2", "/b", b"0")
        there = {"name": "There", "rule": "value > 0", "objectResource": "coap://gscl2/b", "method": "update", "input": "1"}
        back = {"name": "Back", "rule": "value > 0", "objectResource": "coap://gscl1/a", "method": "update", "input": "2"}
        first, second = house.operate(there, subject="/a"), house.operate(back, subject="/b", node="gscl2")
        house.write("gscl1", "/a", b"1")
        house.scheduler.advance(5)
        self.assertEqual((house.content("gscl1", "/a"), house.content("gscl2", "/b")), ("2", "1"))
        self.assertEqual((house["gscl1"].read(first)["runs"], house["gscl2"].read(second)["runs"]), (1, 1))
        last = house.last(first)
        self.assertEqual(last["outcome"], "circle")
        self.assertIn("/b/Operations/Back", str(last["why"]))
        house.stop()

    @seeded()
    def test_seen_when_it_is_saved(self, simulation: Simulation) -> None:
        """A circle on one node is told when an operation closes it, and in its representation; it is saved all the same."""
        house = House(simulation, ("gscl1",))
        for path in ("/a", "/b"):
            house.write("gscl1", path, b"0")
        to_b = {"name": "ToB", "rule": "value > 0", "objectResource": "/b", "method": "update", "input": "1"}
        to_a = {"name": "ToA", "rule": "value > 0", "objectResource": "coap://gscl1/a", "method": "update", "input": "1"}
        self.assertEqual(house["gscl1"].ask(Method.POST, "/a/Operations", to_b).payload, b"")
        answer = json.loads(house["gscl1"].ask(Method.POST, "/b/Operations", to_a).payload)
        told = "a circle: /b/Operations/ToA -> /a/Operations/ToB -> /b/Operations/ToA: a change of /b leads back to it, and ends there"
        self.assertEqual(answer, {"warnings": [told]})
        self.assertEqual(house["gscl1"].read("/b/Operations/ToA")["warnings"], [told])
        house.stop()


class EvaluateTests(SynchronousTestCase):
    """`POST .../evaluate`."""

    @seeded()
    def test_what_would_happen(self, simulation: Simulation) -> None:
        """For a value, and for that of a past evaluation, it says what would happen and why; the target is not written."""
        house = House(simulation)
        house.furnish()
        path = house.operate(TURN_ON_AC, MEMBER_AT_HOME)
        house.write("gscl1", "/temperature", b"31")
        past = house.last(path)
        evaluate = f"{path}/evaluate"

        def ask(document: object) -> dict[str, object]:
            found = json.loads(house["gscl1"].ask(Method.POST, evaluate, document).payload)
            assert isinstance(found, dict)
            return found

        self.assertEqual((past["outcome"], ask({"value": "20"})["why"]), ("did nothing", "value > 30 does not hold"))
        self.assertEqual(ask({"value": "31"})["would"], "do nothing")
        house.write("nscl", "/hostLocation", b"at home")
        for asked in ({"value": "31"}, {"evaluation": past["id"]}):
            told = ask(asked)
            self.assertEqual(told["would"], "run")
            request = told["request"]
            assert isinstance(request, dict)
            self.assertEqual((request["method"], request["uri"], request["content"]), ("POST", "coap://gscl2/airCondition", "ON"))
        for wrong in ({}, {"value": "1", "evaluation": "2"}, {"evaluation": "77"}, {"colour": "red"}):
            self.assertRaises(Fault, house["gscl1"].ask, Method.POST, evaluate, wrong)
        rising = house.operate({**TURN_ON_AC, "name": "Rising", "rule": "rises through 35"})
        tried = [{"value": "36"}, {"value": "36", "before": "35"}]
        found = [json.loads(house["gscl1"].ask(Method.POST, f"{rising}/evaluate", one).payload)["would"] for one in tried]
        self.assertEqual(found, ["run", "do nothing"])  # from the 31 that it has, or from what is given
        self.assertEqual(house.content("gscl2", "/airCondition"), "OFF")
        house.stop()


class AwayTests(SynchronousTestCase):
    """Targets that do not answer."""

    @seeded()
    def test_a_minute(self, simulation: Simulation) -> None:
        """A target that is away gets what is idempotent when it is back: the latest alone, checked again."""
        house = House(simulation, ("gscl1", "gscl2"))
        house.write("gscl1", "/temperature", b"20")
        house.write("gscl2", "/airCondition", b"OFF")
        path = house.operate(
            {
                "name": "Set",
                "rule": "value > 30",
                "objectResource": "coap://gscl2/airCondition",
                "method": "update",
                "inputURI": "/temperature",
            }
        )
        house["gscl2"].kill()
        for content in (b"31", b"32", b"33"):
            house["gscl1"].ask(Method.PUT, "/temperature", content)
            house.scheduler.advance(40)
        house.scheduler.advance(60)
        self.assertEqual(house.last(path)["outcome"], "away")
        house["gscl2"].start()
        house.scheduler.advance(400)
        self.assertEqual(house.content("gscl2", "/airCondition"), "33")
        self.assertEqual(house["gscl1"].read(path)["runs"], 1)
        house.stop()


class GroupTests(SynchronousTestCase):
    """Operations whose target is a group."""

    @seeded()
    def test_same_group(self, simulation: Simulation) -> None:
        """Two operations of one change on the same group both reach every member, the one with the higher priority first."""
        gateway = build_box(simulation, replace(gateway_settings(), triggers=TriggerSettings()), GATEWAY_ADDRESS)
        boxes = [build_box(simulation, member_settings(number), f"fd00::d{number}") for number in (1, 2)]
        for box in (gateway, *boxes):
            box.start()
        site = Site(simulation, gateway, boxes)
        site.make_group("all", members=[f"coap://{box.name}" for box in boxes])
        gateway.ask(Method.PUT, "/temperature", b"20")
        for name, priority in (("second", 1), ("first", 2)):
            target = f"/groups/all/membersContent/{name}"
            given = {"name": name, "priority": priority, "rule": "value > 30", "objectResource": target, "method": "update", "input": name}
            gateway.ask(Method.POST, "/temperature/Operations", given)
        gateway.ask(Method.PUT, "/temperature", b"31")
        site.run(5.0)
        for box in boxes:
            self.assertEqual([box.ask(Method.GET, f"/{name}").payload for name in ("first", "second")], [b"first", b"second"])
        result = gateway.read("/temperature/Operations/first")["result"]
        assert isinstance(result, dict)
        self.assertEqual((result["status"], result["content"]["complete"]), ("2.04", True))
        site.stop()
