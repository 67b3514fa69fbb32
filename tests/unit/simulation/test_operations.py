"""Operations on whole nodes: the example of CN 104662858 over its four nodes, and ties of every kind."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Method
from tests.simulation import Simulation, seeded
from tests.unit.simulation.house import (
    BEDROOM_CLOSED,
    BEDROOM_OPEN,
    CLOSE_WINDOW,
    LIVINGROOM_CLOSED,
    LIVINGROOM_OPEN,
    MEMBER_AT_HOME,
    RESOURCE,
    TURN_ON_AC,
    House,
    lines,
)


class DocumentTests(SynchronousTestCase):
    """The example of the document."""

    @seeded(2)
    def test_figure_10(self, simulation: Simulation) -> None:
        """31 degrees, a window is open, somebody is at home: the window is shut first, then the air conditioner is turned on."""
        house = House(simulation)
        house.furnish()
        house.write("gscl1", "/bedroomWindowStatus", b"Open")
        house.write("nscl", "/hostLocation", b"at home")
        window = house.operate(CLOSE_WINDOW, LIVINGROOM_OPEN, BEDROOM_OPEN)
        house.operate(TURN_ON_AC, MEMBER_AT_HOME)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual((house.content("gscl3", "/window"), house.content("gscl2", "/airCondition")), ("OFF", "ON"))
        closing, turning = house.last(window), house.last("/temperature/Operations/TurnOnAC")
        self.assertEqual(
            lines(closing),
            [
                ("rule", "", True),  # 403
                ("dependency", "LivingroomWindowOpen", False),  # 604, 605, 607, 608
                ("dependency", "BedroomWindowOpen", True),  # 604, 605, 606, 609
                ("input", "GET", "coap://gscl3/OFF", None, "2.05"),  # 505
                ("request", "POST", "coap://gscl3/window", "OFF", "2.04"),  # 407, 408
                ("output", "GET", "coap://gscl2/allWindowStatus", None, "2.05"),  # 704
                ("result", None, None, None, None),  # 705
            ],
        )
        self.assertEqual(
            lines(turning),
            [
                ("rule", "", True),
                ("dependency", "MemberAtHome", True),  # 411
                ("request", "POST", "coap://gscl2/airCondition", "ON", "2.04"),  # 413, 414
                ("result", None, None, None, None),  # 703
            ],
        )
        self.assertLess(str(closing["at"]), str(turning["at"]))
        result = house["gscl1"].read(window)["result"]
        assert isinstance(result, dict)
        self.assertEqual((result["status"], result["content"]), ("2.05", "Closed"))
        house.stop()

    @seeded()
    def test_figure_14(self, simulation: Simulation) -> None:
        """Each line of figure 14, with the dependencies in every order: what runs does not depend on the order."""
        house = House(simulation)
        house.furnish()
        house.write("nscl", "/hostLocation", b"at home")
        three = [LIVINGROOM_CLOSED, BEDROOM_CLOSED, MEMBER_AT_HOME]
        for turn in range(3):
            order = [*three[turn:], *three[:turn]]
            for shut in (False, True):
                house.write("gscl1", "/bedroomWindowStatus", b"Closed" if shut else b"Open")
                house["gscl1"].ask(Method.PUT, "/temperature/Operations/TurnOnAC", {**TURN_ON_AC, "dependencies": order})
                house.write("gscl2", "/airCondition", b"OFF")
                house.write("gscl1", "/temperature", b"31")
                last = house.last("/temperature/Operations/TurnOnAC")
                looked = [line[1] for line in lines(last) if line[0] == "dependency"]
                names = [str(one["name"]) for one in order]
                self.assertEqual(house.content("gscl2", "/airCondition"), "ON" if shut else "OFF")
                self.assertEqual(last["outcome"], "ran" if shut else "did nothing")
                self.assertEqual(looked, names if shut else names[: names.index("BedroomWindowClosed") + 1])
        house.stop()

    @seeded()
    def test_departure_from_figure_14(self, simulation: Simulation) -> None:
        """An AND that does not hold does not end it where an OR behind it holds, as the claims have it."""
        house = House(simulation)
        house.furnish()
        sufficient = {**MEMBER_AT_HOME, "logic": "OR"}
        house.write("gscl1", "/bedroomWindowStatus", b"Open")
        house.write("nscl", "/hostLocation", b"at home")
        path = house.operate(TURN_ON_AC, BEDROOM_CLOSED, LIVINGROOM_CLOSED, sufficient)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        looked = [line[1:] for line in lines(house.last(path)) if line[0] == "dependency"]
        self.assertEqual(looked, [("BedroomWindowClosed", False), ("MemberAtHome", True)])
        house.stop()

    @seeded()
    def test_below_30(self, simulation: Simulation) -> None:
        """At 30 degrees neither runs, and each says why not."""
        house = House(simulation)
        house.furnish()
        paths = [house.operate(CLOSE_WINDOW, BEDROOM_OPEN), house.operate(TURN_ON_AC)]
        house.write("gscl1", "/temperature", b"30")
        self.assertEqual((house.content("gscl3", "/window"), house.content("gscl2", "/airCondition")), ("ON", "OFF"))
        self.assertEqual({str(house.last(path)["why"]) for path in paths}, {"value > 30 does not hold"})
        house.stop()


class TieTests(SynchronousTestCase):
    """The three ways of tying, on this node and across nodes."""

    @seeded()
    def test_inline(self, simulation: Simulation) -> None:
        """Operations in the subject's whole representation run, are shown there and in the collection, and go when left out."""
        house = House(simulation, ("gscl1", "gscl2"))
        house.write("gscl2", "/airCondition", b"OFF")
        given = json.dumps({"content": "20", "operations": [{**TURN_ON_AC, "dependencies": []}]}).encode()
        house["gscl1"].ask(Method.PUT, "/temperature", None, payload=given, content_type=RESOURCE)
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        shown = house["gscl1"].read("/temperature", accept=(RESOURCE,))["operations"]
        assert isinstance(shown, list)
        self.assertEqual((shown[0]["name"], shown[0]["result"]["status"]), ("TurnOnAC", "2.04"))
        house["gscl1"].ask(Method.PUT, "/temperature", None, payload=b'{"content":"20","operations":[]}', content_type=RESOURCE)
        self.assertEqual(house["gscl1"].read("/temperature/Operations")["children"], [])
        house.stop()

    @seeded(2)
    def test_elsewhere(self, simulation: Simulation) -> None:
        """As in figure 10: subject on gscl1, operations on gscl2. A changed rule counts at the next change; the result is stored there."""
        house = House(simulation)
        house.furnish()
        path = house.operate({**TURN_ON_AC, "objectResource": "/airCondition"}, subject="/airCondition", node="gscl2")
        for uri in ("coap://gscl2/airCondition/Operations", f"coap://gscl2{path}"):
            given = json.dumps({"content": "20", "operationURIs": [uri]}).encode()
            house["gscl1"].ask(Method.PUT, "/temperature", None, payload=given, content_type=RESOURCE)
            house.write("gscl2", "/airCondition", b"OFF")
            house.write("gscl1", "/temperature", b"31")
            self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        result = house["gscl2"].read(path)["result"]
        assert isinstance(result, dict)
        self.assertEqual(result["status"], "2.04")
        house["gscl2"].ask(Method.PUT, path, {**TURN_ON_AC, "rule": "value > 35", "objectResource": "/airCondition"})
        house.write("gscl2", "/airCondition", b"OFF")
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/airCondition"), "OFF")
        house.write("gscl1", "/temperature", b"36")
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        house.stop()

    @seeded()
    def test_dependencies_elsewhere(self, simulation: Simulation) -> None:
        """Dependencies that an operation names by URI are fetched; one that cannot be had does not hold, and says so."""
        house = House(simulation)
        house.furnish()
        house.write("nscl", "/hostLocation", b"at home")
        other = house.operate({**TURN_ON_AC, "rule": "value == 'never'"}, MEMBER_AT_HOME, subject="/hostLocation", node="nscl")
        uris = [f"coap://nscl{other}/Dependencies"]
        house.operate({**TURN_ON_AC, "dependencyURIs": uris})
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/airCondition"), "ON")
        house["nscl"].ask(Method.DELETE, f"{other}/Dependencies/MemberAtHome")
        house["gscl1"].ask(Method.PUT, "/temperature/Operations/TurnOnAC", {**TURN_ON_AC, "dependencyURIs": [f"{uris[0]}/MemberAtHome"]})
        house.write("gscl2", "/airCondition", b"OFF")
        house.write("gscl1", "/temperature", b"31")
        self.assertEqual(house.content("gscl2", "/airCondition"), "OFF")
        self.assertIn("cannot be fetched", str(house.last("/temperature/Operations/TurnOnAC")["steps"]))
        house.stop()
