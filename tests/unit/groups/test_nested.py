"""Which URIs are groups, what is remembered of those elsewhere, and their circles."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import dump_cbor, dump_json
from m2mapp.formats.uris import Uri
from m2mapp.groups.group import GROUP, group_types
from m2mapp.groups.nested import (
    FRESH_S,
    KEEP_S,
    NOT_THERE,
    RETRY_S,
    SOON_S,
    GroupGraph,
    Known,
    KnownGroups,
    Nesting,
    group_at,
    group_name,
    read_group,
)
from m2mapp.model.messages import Answer
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import build_tree

OWN = "http://g1.example.org/groups/"
THERE = "http://g2.example.org/groups/"


def is_own(uri: Uri) -> bool:
    """Whether a URI is the node's, which has an address too."""
    return uri.host in ("g1.example.org", "192.0.2.1")


class Ground:
    """Groups of a node, and what it knows of others."""

    def __init__(self) -> None:
        self.built = build_tree(group_types(lambda name: OWN + name))
        self.known = KnownGroups()
        self.graph = GroupGraph(self.built.tree, is_own, lambda name: OWN + name, self.known)

    def make(self, name: str, *members: str) -> None:
        """A group of the node."""
        kept = {"type": "static", "reliable": False, "members": list(members)}
        self.built.committer.commit(Unit((Write(("groups", name), GROUP, kept),)))


class FormTests(SynchronousTestCase):
    def test_which_are_groups(self) -> None:
        """A group by its URI or its membersContent, below any path; nothing with a query, a suffix or another form."""
        for text in (f"{THERE}g", f"{THERE}g/membersContent"):
            found = group_at(text)
            self.assertEqual(found.text() if found is not None else None, f"{THERE}g")
        below = group_at("coap://g2.example.org/x/groups/g")
        self.assertEqual(below.text() if below is not None else None, "coap://g2.example.org/x/groups/g")
        for text in (f"{THERE}g?a=1", f"{THERE}g/members", f"{THERE}g/membersContent/t", "coap://g2/t", "coap://g2/groups"):
            self.assertIsNone(group_at(text), text)
        self.assertEqual((group_name(("groups", "g")), group_name(("x", "groups", "g"))), ("g", None))

    def test_which_lead_to_groups(self) -> None:
        """What is a part of a group's members is reached by that group, here or elsewhere; what stands beside them is not."""
        graph = Ground().graph
        of_all = ("", "/membersContent", "/membersContent/t/u", "/membersContent/t?a=1", "/membersContent/groups/h")
        for text in (f"{THERE}g{behind}" for behind in of_all):
            self.assertEqual(graph.reached_by(text), f"{THERE}g", text)
        self.assertEqual(graph.reached_by("coap://192.0.2.1/groups/g/membersContent/t"), f"{OWN}g")
        for text in (
            f"{THERE}g/members",
            "http://g1.example.org/x/groups/g",
            "coap://g2/t",
            "coap://g2/x/membersContent/t",
            "coap://g2/groups/",
        ):
            self.assertIsNone(graph.reached_by(text), text)


class ReadTests(SynchronousTestCase):
    def test_what_its_server_says(self) -> None:
        """A representation with a type of groups and members is a group; anything else is none; no answer says nothing."""
        whole = {"type": "static", "members": ["coap://d1/t", "coap://d1:5683/t", "http://g2/groups/x"]}
        for payload, media_type in ((dump_json(whole), "application/json"), (dump_cbor(whole), "application/cbor")):
            self.assertEqual(read_group(Answer("200", payload, media_type)), Known(("coap://d1/t", "http://g2/groups/x")))
        for payload in (b"21.5", b"[]", b"{", dump_json({"members": []}), dump_json({"type": "static", "members": 1})):
            self.assertEqual(read_group(Answer("2.05", payload)), Known(None), payload)
        self.assertEqual(read_group(Answer("2.05", dump_json({**whole, "members": ["nothing"]}))), Known(None))
        whys = [read_group(answer).why for answer in (None, Answer("4.04"), Answer("503"))]
        self.assertEqual(whys, ["no answer", NOT_THERE, "answered 503"])

    def test_how_long_it_holds(self) -> None:
        """What was read is asked for again after its time; while nobody answers it holds; what is not there is asked for again soon."""
        known = KnownGroups()
        self.assertEqual((known.is_due("u", 0.0), known.news), (True, 0))
        self.assertTrue(known.learned("u", Known(("coap://d1/t",)), 0.0))
        self.assertEqual((known.is_due("u", KEEP_S - 1), known.is_due("u", KEEP_S)), (False, True))
        self.assertFalse(known.learned("u", Known((), "no answer"), KEEP_S))
        self.assertEqual(known.of("u"), Known(("coap://d1/t",), "no answer"))
        self.assertEqual((known.is_due("u", KEEP_S + RETRY_S - 1), known.is_due("u", KEEP_S + RETRY_S)), (False, True))
        self.assertTrue(known.learned("u", Known((), NOT_THERE), KEEP_S))
        self.assertEqual((known.of("u"), known.is_due("u", KEEP_S + SOON_S)), (Known((), NOT_THERE), True))
        self.assertTrue(known.learned("u", Known(None), 700.0))
        known.learned("u", Known((), "no answer"), 1400.0)
        self.assertTrue(known.is_ordinary("u"))

    def test_how_old_it_may_be(self) -> None:
        """Who has to know what is so now has it read again sooner; a server that cannot be asked is let be for its time all the same."""
        known = KnownGroups()
        known.learned("u", Known(("coap://d1/t",)), 0.0)
        self.assertEqual((known.is_due("u", FRESH_S - 1, FRESH_S), known.is_due("u", FRESH_S, FRESH_S)), (False, True))
        known.learned("u", Known((), "no answer"), 10.0)
        self.assertEqual((known.is_due("u", 10.0 + FRESH_S, FRESH_S), known.news), (False, 1))

    def test_bounded(self) -> None:
        """So many groups are remembered, and so many members: the one read first is forgotten first, and never the newest."""
        known = KnownGroups(most=2, most_members=3)
        for name in ("a", "b", "c"):
            known.learned(name, Known(("coap://d1/t",)), 0.0)
        self.assertEqual((len(known), known.of("a")), (2, None))
        known.learned("d", Known(tuple(f"coap://d{number}/t" for number in range(5))), 0.0)
        self.assertEqual((len(known), known.of("d") is not None), (1, True))


class GraphTests(SynchronousTestCase):
    def test_nodes(self) -> None:
        """A group here by any of the node's names; one elsewhere until its server says that it is none."""
        ground = Ground()
        self.assertEqual(ground.graph.node("coap://192.0.2.1/groups/g/membersContent"), f"{OWN}g")
        self.assertIsNone(ground.graph.node("http://g1.example.org/x/groups/g"))
        self.assertEqual(ground.graph.node(f"{THERE}x"), f"{THERE}x")
        ground.known.learned(f"{THERE}x", Known(None), 0.0)
        self.assertIsNone(ground.graph.node(f"{THERE}x"))

    def test_circles(self) -> None:
        """Every way back to the group, here and over others; circles that do not pass through it are not its own."""
        ground = Ground()
        ground.make("a", f"{OWN}a", f"{OWN}b", f"{THERE}x", "coap://d1/t")
        ground.make("b", f"{OWN}c")
        ground.make("c", f"{OWN}b")
        ground.known.learned(f"{THERE}x", Known((f"{THERE}y",)), 0.0)
        ground.known.learned(f"{THERE}y", Known(("coap://192.0.2.1/groups/a", "coap://d2/t")), 0.0)
        members = ground.graph.members(f"{OWN}a")
        way = [f"{OWN}a", f"{THERE}x", f"{THERE}y", f"{OWN}a"]
        self.assertEqual(ground.graph.circles(f"{OWN}a", members), [[f"{OWN}a", f"{OWN}a"], way])
        self.assertEqual(ground.graph.devices_below(f"{THERE}x"), ("coap://d2/t", "coap://d1/t"))

    def test_which_change(self) -> None:
        """Groups with groups in them are planned again when one of them, or any group, comes, goes or has other groups in it."""
        ground, nesting = Ground(), Nesting()
        changes = []
        ground.built.tree.watch(("groups",), lambda change: changes.append(nesting.changed(change.before, change.after)), subtree=True)
        ground.make("a", f"{OWN}b")
        ground.make("b", f"{OWN}a")
        ground.make("b", f"{OWN}a", "coap://d1/t")
        ground.make("c", "coap://d1/t")
        ground.built.committer.commit(Unit((Remove(("groups", "b")),)))
        self.assertEqual(changes, [[], ["a"], [], ["a", "b"], ["a"]])
