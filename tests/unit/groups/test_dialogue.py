"""In what words devices are told: by our names, by theirs, as RFC 7390 has it, by HTTP; against devices that answer as theirs do."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import CBOR, JSON, dump_cbor, load_cbor
from m2mapp.formats.uris import parse_uri
from m2mapp.groups.checking import check
from m2mapp.groups.dialogue import COAP_GROUP_JSON, Place, Said, address_of, join, leave, say, shown_groups, shown_memberships
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.registrations import Device
from tests.unit.groups.parts import FIRST_ADDRESS, SECOND_ADDRESS, build_device

T = TypeVar("T")
PLACE = Place("g1-grp-1", FIRST_ADDRESS, 5683, "/t")
OLD = Place("g1-grp-1", SECOND_ADDRESS, 5683, "/t")
DOCUMENT = {"mcAddress": FIRST_ADDRESS, "fanoutURI": "/t", "memberList": ["/t"], "leisure": 0.0}
AnswerTo = Callable[[Outgoing], Answer | None]


def hold(dialogue: Generator[Outgoing, Answer | None, T], device: AnswerTo) -> tuple[list[str], T]:
    """The dialogue with a device: what it was sent, as method and path, and what came of it."""
    sent: list[str] = []
    try:
        outgoing = next(dialogue)
        while True:
            sent.append(f"{outgoing.method.value} /{'/'.join(parse_uri(outgoing.uri).path)}")
            outgoing = dialogue.send(device(outgoing))
    except StopIteration as end:
        return sent, end.value


def always(answer: Answer | None) -> AnswerTo:
    """A device that says the same whatever it is asked."""
    return lambda _: answer


class Rfc7390Device:
    """The interface of RFC 7390, section 2.6, at /coap-group. `takes` are the methods that it takes on the whole."""

    def __init__(self, takes: tuple[Method, ...] = (Method.GET, Method.PUT, Method.POST), **kept: dict[str, str]) -> None:
        self.kept, self.takes = dict(kept), takes

    def __call__(self, outgoing: Outgoing) -> Answer | None:
        index = parse_uri(outgoing.uri).path[1:]
        if outgoing.method is Method.DELETE and index:
            if Method.DELETE not in self.takes and Method.POST not in self.takes:
                return Answer("4.05")
            return Answer("2.02" if self.kept.pop(index[0], None) is not None else "4.04")
        if outgoing.method not in self.takes or index:
            return Answer("4.05")
        if outgoing.method is Method.GET:
            return Answer("2.05", json.dumps(self.kept).encode(), COAP_GROUP_JSON)
        assert outgoing.content_type == COAP_GROUP_JSON
        document = json.loads(outgoing.payload)
        if outgoing.method is Method.PUT:
            self.kept = document
            return Answer("2.04")
        self.kept[f"i{len(self.kept)}"] = document
        return Answer("2.01", location=f"/coap-group/i{len(self.kept) - 1}")


class NamingDevice:
    """A device that names its mcGroups itself: it takes POST to /mcGroups, and no PUT."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def __call__(self, outgoing: Outgoing) -> Answer | None:
        name = "/".join(parse_uri(outgoing.uri).path[1:])
        if outgoing.method is Method.GET:
            children = [{"name": name, **kept} for name, kept in self.kept.items() if isinstance(kept, dict)]
            return Answer("2.05", dump_cbor({"children": children}), CBOR)
        if outgoing.method is Method.POST:
            self.kept[f"own-{len(self.kept)}"] = load_cbor(outgoing.payload)
            return Answer("2.01")
        if outgoing.method is Method.DELETE:
            return Answer("2.02" if self.kept.pop(name, None) is not None else "4.04")
        return Answer("4.05")


OURS = build_device(1)
GROUP_DEVICE = build_device(1, coap_group="/coap-group")


class NamedTests(SynchronousTestCase):
    def test_by_our_name(self) -> None:
        """One PUT, one DELETE; whatever is answered is what counts."""
        self.assertEqual(hold(join(OURS, PLACE, DOCUMENT), lambda _: Answer("2.01")), (["PUT /mcGroups/g1-grp-1"], Answer("2.01")))
        self.assertEqual(hold(leave(OURS, PLACE), lambda _: Answer("2.02")), (["DELETE /mcGroups/g1-grp-1"], Answer("2.02")))
        for answer in (None, Answer("5.03")):
            self.assertEqual(hold(join(OURS, PLACE, DOCUMENT), always(answer))[1], answer)

    def test_by_the_devices_name(self) -> None:
        """A device that takes no PUT gets a POST, once; what it named is found again by what it shows, changed and left."""
        device = NamingDevice()
        sent, answer = hold(join(OURS, PLACE, DOCUMENT), device)
        self.assertEqual((sent, answer), (["PUT /mcGroups/g1-grp-1", "GET /mcGroups", "POST /mcGroups"], Answer("2.01")))
        self.assertEqual(hold(join(OURS, PLACE, DOCUMENT), device)[0], ["PUT /mcGroups/g1-grp-1", "GET /mcGroups"])
        changed = {**DOCUMENT, "memberList": ["/t", "/u"]}
        hold(join(OURS, PLACE, changed), device)
        self.assertEqual(list(device.kept.values()), [changed])
        device.kept["other"] = {**DOCUMENT, "mcAddress": SECOND_ADDRESS}
        sent, answer = hold(leave(OURS, PLACE), device)
        self.assertEqual((answer, list(device.kept)), (Answer("2.02"), ["other"]))
        self.assertEqual(hold(leave(OURS, PLACE), device)[1], Answer("4.04"))

    def test_a_device_that_shows_nothing(self) -> None:
        """One that takes no PUT and does not show what it holds could never be told to leave: it is not told to join."""
        sent, answer = hold(join(OURS, PLACE, DOCUMENT), lambda _: Answer("4.05"))
        self.assertEqual((sent, answer), (["PUT /mcGroups/g1-grp-1", "GET /mcGroups"], Answer("4.05")))

    def test_by_http(self) -> None:
        """A device that takes advertisements at an HTTP URI of its own, or is reached by HTTP, is told there, at its address, in JSON."""
        for device in (
            build_device(1, mc_groups="http://d1.example.org:8080/own"),
            build_device(1, scheme="http", port=8080, mc_groups="/own"),
        ):
            outgoing = next(join(device, PLACE, DOCUMENT))
            self.assertEqual((outgoing.uri, outgoing.content_type), ("http://[fd00::d1]:8080/own/g1-grp-1", JSON))
            self.assertEqual(json.loads(outgoing.payload), DOCUMENT)
            self.assertEqual(hold(leave(device, PLACE), lambda _: Answer("204"))[1], Answer("204"))

    def test_moved(self) -> None:
        """A set that has another address now replaces the mcGroup of its name: there is nothing to leave besides."""
        sent, said = hold(say(OURS, (PLACE, DOCUMENT), [OLD]), lambda _: Answer("2.04"))
        self.assertEqual((sent, said), (["PUT /mcGroups/g1-grp-1"], Said(Answer("2.04"), frozenset({SECOND_ADDRESS}))))
        self.assertEqual(hold(say(OURS, (PLACE, DOCUMENT), [OLD]), lambda _: None)[1], Said(None))


class Rfc7390Tests(SynchronousTestCase):
    def test_join_and_leave(self) -> None:
        """POST of one membership with address and name, once; DELETE of its index; others' memberships stay."""
        device = Rfc7390Device(x={"a": "[ff15::9]", "n": "other.example.org"})
        sent, answer = hold(join(GROUP_DEVICE, PLACE, DOCUMENT), device)
        self.assertEqual((sent, answer is not None and answer.code), (["GET /coap-group", "POST /coap-group"], "2.01"))
        self.assertEqual(device.kept["i1"], {"n": "g1-grp-1", "a": f"[{FIRST_ADDRESS}]"})
        self.assertEqual(hold(join(GROUP_DEVICE, PLACE, DOCUMENT), device), (["GET /coap-group"], Answer("2.03")))
        sent, answer = hold(leave(GROUP_DEVICE, PLACE), device)
        self.assertEqual((sent, list(device.kept)), (["GET /coap-group", "DELETE /coap-group/i1"], ["x"]))
        self.assertEqual(hold(leave(GROUP_DEVICE, PLACE), device), (["GET /coap-group"], Answer("2.02")))

    def test_ports_and_names(self) -> None:
        """A port that is not CoAP's stands with the address; a name that can be no host name is left out; IPv4 has no brackets."""
        device = Rfc7390Device()
        for place in (Place("grün", FIRST_ADDRESS, 61616, "/t"), Place("n", "239.255.1.1", 5683, "/t")):
            hold(join(GROUP_DEVICE, place, DOCUMENT), device)
            self.assertEqual(hold(join(GROUP_DEVICE, place, DOCUMENT), device)[1], Answer("2.03"))
        self.assertEqual(list(device.kept.values()), [{"a": f"[{FIRST_ADDRESS}]:61616"}, {"n": "n", "a": "239.255.1.1"}])

    def test_the_whole(self) -> None:
        """A device that takes memberships only as a whole is given the whole, with what it had."""
        device = Rfc7390Device((Method.GET, Method.PUT), **{"1": {"a": "[ff15::9]"}})
        hold(join(GROUP_DEVICE, PLACE, DOCUMENT), device)
        self.assertEqual(device.kept, {"1": {"a": "[ff15::9]"}, "2": {"n": "g1-grp-1", "a": f"[{FIRST_ADDRESS}]"}})
        hold(leave(GROUP_DEVICE, PLACE), device)
        self.assertEqual(device.kept, {"1": {"a": "[ff15::9]"}})

    def test_moved(self) -> None:
        """It joins the new address before it leaves the old one; where it does not confirm the first, it leaves nothing."""
        device = Rfc7390Device(x={"a": f"[{SECOND_ADDRESS}]"})
        sent, said = hold(say(GROUP_DEVICE, (PLACE, DOCUMENT), [OLD]), device)
        self.assertEqual(sent, ["GET /coap-group", "POST /coap-group", "GET /coap-group", "DELETE /coap-group/x"])
        self.assertEqual((said.left, len(device.kept)), (frozenset({SECOND_ADDRESS}), 1))
        self.assertEqual(hold(say(GROUP_DEVICE, (PLACE, DOCUMENT), [OLD]), lambda _: None), (["GET /coap-group"], Said(None)))

    def test_a_device_that_does_not_speak_it(self) -> None:
        """What is not understood is not taken for an empty list."""
        for answer in (Answer("4.04"), None, Answer("2.05", b"[1]", COAP_GROUP_JSON), Answer("2.05", b"{}", "text/plain")):
            sent, found = hold(join(GROUP_DEVICE, PLACE, DOCUMENT), always(answer))
            self.assertEqual(sent, ["GET /coap-group"])
            self.assertTrue(found is None or not found.ok)
            self.assertTrue((left := hold(leave(GROUP_DEVICE, PLACE), always(answer))[1]) is None or not left.ok)


class CheckTests(SynchronousTestCase):
    def is_ours(self, name: str, address: str) -> bool:
        return address.startswith("ff35:") and (not name or name.startswith("g1-"))

    def compare(self, device: Device, answer: AnswerTo, *owed: Place) -> tuple[list[str], frozenset[Place] | None]:
        """What comes of a check for PLACE."""
        return hold(check(device, {PLACE: DOCUMENT}, owed, self.is_ours), answer)

    def test_what_it_holds(self) -> None:
        """What is as it shall be is named; what is another, by any of its parts, is not; a device that says nothing gives None."""
        device = NamingDevice()
        device.kept = {"g1-grp-1": DOCUMENT}
        self.assertEqual(self.compare(OURS, device), (["GET /mcGroups"], frozenset({PLACE})))
        for part, value in (("mcAddress", SECOND_ADDRESS), ("memberList", []), ("leisure", 9.0), ("fanoutURI", "/u")):
            device.kept = {"g1-grp-1": {**DOCUMENT, part: value}}
            self.assertEqual(self.compare(OURS, device)[1], frozenset())
        for said in (None, Answer("4.05"), Answer("2.05", b"x", CBOR), Answer("2.05", dump_cbor({"children": 1}), CBOR)):
            self.assertIsNone(self.compare(OURS, always(said))[1])

    def test_what_is_left_over(self) -> None:
        """What is ours and neither wanted nor owed is left; what is owed is told by itself; others' groups are not touched."""
        device = NamingDevice()
        gone = {**DOCUMENT, "mcAddress": SECOND_ADDRESS}
        foreign = {**DOCUMENT, "mcAddress": "ff15::1"}
        device.kept = {"g1-grp-1": DOCUMENT, "g1-gone-1": gone, "g1-owed-1": gone, "g1-x": foreign, "g2-gone-1": gone}
        owed = Place("g1-owed-1", SECOND_ADDRESS, 5683, "/t")
        sent, held = self.compare(OURS, device, owed)
        self.assertEqual((sent, held), (["GET /mcGroups", "DELETE /mcGroups/g1-gone-1"], frozenset({PLACE})))

    def test_memberships(self) -> None:
        """So it is with the memberships of RFC 7390, by their addresses."""
        device = Rfc7390Device(a={"a": f"[{FIRST_ADDRESS}]"}, b={"a": f"[{SECOND_ADDRESS}]"}, c={"a": "[ff15::1]"}, d={"n": "only.a.name"})
        self.assertEqual(self.compare(GROUP_DEVICE, device), (["GET /coap-group", "DELETE /coap-group/b"], frozenset({PLACE})))
        self.assertEqual(list(device.kept), ["a", "c", "d"])
        self.assertIsNone(self.compare(GROUP_DEVICE, lambda _: Answer("4.04"))[1])

    @given(st.binary(max_size=40), st.sampled_from([CBOR, JSON, COAP_GROUP_JSON, "text/plain", None]))
    def test_any_bytes(self, payload: bytes, media_type: str | None) -> None:
        """Whatever a device shows, nothing raises."""
        answer = Answer("2.05", payload, media_type)
        shown_groups(answer)
        shown_memberships(answer)

    @given(
        st.dictionaries(st.text(max_size=3), st.recursive(st.none() | st.text(max_size=30), lambda one: st.dictionaries(st.just("a"), one)))
    )
    def test_any_memberships(self, document: dict[str, object]) -> None:
        """Nor does any document."""
        for kept in (shown_memberships(Answer("2.05", json.dumps(document).encode(), COAP_GROUP_JSON)) or {}).values():
            address_of(kept)
