"""What an edit of a group would do, told without doing it."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

from m2mapp.model.errors import Conflict, Malformed, NoSuchResource
from m2mapp.model.messages import Method
from tests.unit.groups.parts import FIRST_ADDRESS, GroupCase, Groups, uri_at

EXPLAIN = (("explain", ""),)


class PreviewTests(GroupCase):
    def preview(self, groups: Groups, method: Method, path: str, document: object = None, **more: object) -> dict[str, Any]:
        """What an edit would make of the group."""
        done = groups.send(method, path, document, **{"query": EXPLAIN, **more})
        found: dict[str, Any] = json.loads(self.successResultOf(done).payload)
        return found

    def test_a_new_group(self) -> None:
        """The sets with each member's reason; nothing is written, nobody is told, no address is taken."""
        groups = self.build(2, pool=(ip_network(f"{FIRST_ADDRESS}/128"),))
        number = groups.built.tree.committed_number
        members = [uri_at(1), uri_at(2), "http://x.example.org/t"]
        shown = self.preview(groups, Method.POST, "/groups", {"name": "g", "members": members})
        self.assertEqual((shown["name"], shown["type"], shown["members"]), ("g", "static", members))
        first, second = shown["fanoutSets"]
        self.assertEqual((first["fanoutAddress"], first["memberList"]), (FIRST_ADDRESS, members[:2]))
        self.assertEqual(first["why"][uri_at(1)], "same path, local domain")
        self.assertEqual(second["why"], {members[2]: "http cannot be multicast"})
        self.assertEqual((groups.built.tree.committed_number, groups.told()), (number, []))
        groups.make(members)
        self.assertEqual([one.address for one in groups.sets()], [FIRST_ADDRESS, "x.example.org"])

    def test_changes(self) -> None:
        """Members that would come and go: all sets as they would be, the joins of those who stay, and the group as it was."""
        groups = self.build(3)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        before = groups.sets()
        shown = self.preview(groups, Method.POST, "/groups/g/members", {"members": [uri_at(3), "http://x.example.org/t"]})
        first, second = shown["fanoutSets"]
        self.assertEqual(first["joins"], {uri_at(1): "joined", uri_at(2): "joined", uri_at(3): "pending"})
        self.assertEqual(second["name"], "2")
        shown = self.preview(groups, Method.DELETE, "/groups/g/members", query=(*EXPLAIN, ("uri", uri_at(2))))
        self.assertEqual([one["addressType"] for one in shown["fanoutSets"]], ["unicast-ipv6"])
        self.assertEqual(groups.sets(), before)

    def test_refused(self) -> None:
        """What could not be done is refused as if it were asked."""
        groups = self.build(1)
        groups.make([uri_at(1)])
        ask = groups.send
        self.failureResultOf(ask(Method.POST, "/groups", {"name": "g", "members": [uri_at(1)]}, query=EXPLAIN), Conflict)
        self.failureResultOf(ask(Method.PUT, "/groups/x/members", {"members": [uri_at(1)]}, query=EXPLAIN), NoSuchResource)
        self.failureResultOf(ask(Method.POST, "/groups", {"name": "h", "members": []}, query=EXPLAIN), Malformed)
        self.failureResultOf(ask(Method.POST, "/groups", {"name": "h", "members": [uri_at(1)]}, query=(("explain", "1"),)), Malformed)
