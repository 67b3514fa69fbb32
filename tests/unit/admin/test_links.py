"""Links between the pages: whatever things are called, each link on each page leads to a page that is there."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from urllib.parse import quote, urljoin

from m2mapp.formats.uris import path_uri
from m2mapp.model.identifiers import path_text
from m2mapp.registry.scl import name_of
from m2mapp.tree.unit import Unit, Write
from tests.unit.admin.harness import Visitor
from tests.unit.admin.house_of_groups import GroupsCase
from tests.unit.admin.test_addresses import AddressesCase, lease
from tests.unit.admin.test_operations import FORM, OperationsCase
from tests.unit.lwm2m.reporting import duid, registration

ODD = "a b&c=d?e#f+g%2Fh;é'\"<i>"
"""A name with all that means something in a URI, in a query, or in HTML."""
ENDPOINT = "urn:imei:1/2"
"""The name of an endpoint that no path segment can have as it is (`registry.scl.name_of`)."""
_ADDRESSES = "/admin/addresses"
_MOST = 200
_LINK = re.compile(r'(?:href|hx-get)="([^"]*)"')


def crawl(visitor: Visitor, *lacking: str) -> set[str]:
    """The pages that links lead to from the overview on, each of which has to be there; `lacking`: those that the house has no part for."""
    waiting, seen = ["/admin/"], {"/admin/"}
    while waiting:
        target = waiting.pop()
        answer = visitor.get(target)
        assert answer.code == 200, f"{target}: {answer.code}"
        links = (urljoin(target, html.unescape(link)).partition("#")[0] for link in _LINK.findall(answer.body.decode()))
        found = {link for link in links if link.startswith("/admin/") and not link.startswith("/admin/static/")}.difference(seen, lacking)
        waiting += found
        seen |= found
        assert len(seen) < _MOST, sorted(seen)
    return seen


class GroupLinkTests(GroupsCase):
    def test_devices_and_groups(self) -> None:
        """All pages are reached of a node with devices, one of them registered as `urn:imei:1/2`, groups and resources of odd names."""
        names = name_of(ENDPOINT, "s"), ODD
        devices = [replace(registration(number), path=("scls", name)) for number, name in enumerate(names, 1)]
        self.house.built.committer.commit(Unit((*devices, Write(("a", ODD, "b"), content=b"1"))))
        self.groups.make([f"coap://dev-{number}.example.org/l" for number in (1, 2)], ODD)
        self.groups.join_all()
        seen = crawl(self.visitor, _ADDRESSES)
        for name in (*names, ODD):
            self.assertIn(f"/admin/devices/{quote(name, safe='')}", seen)
        self.assertIn(f"/admin/groups/{quote(ODD, safe='')}", seen)


class AddressLinkTests(AddressesCase):
    def test_leases(self) -> None:
        """All pages are reached of a node with leases of a registered device and of one that is not registered."""
        self.commit(lease(1), lease(2), replace(registration(1), path=("scls", ODD)))
        seen = crawl(self.visitor)
        self.assertLessEqual({f"/admin/addresses/{duid(1)}/1", f"/admin/devices/{quote(ODD, safe='')}", f"/admin/devices/{duid(2)}"}, seen)


class OperationLinkTests(OperationsCase):
    def test_operations_and_timers(self) -> None:
        """All pages are reached of a node with operations and timers of odd names."""
        for subject in (("timers", ODD), (ODD, "t")):
            if subject[0] == "timers":
                self.visitor.post("/admin/timers", do="make", name=ODD, schedule="every", time="1h")
            else:
                self.put(subject, b"20")
            made = self.visitor.post("/admin/operations", do="make", subject=path_text(subject), name=ODD, **FORM)
            self.assertEqual(made.code, 303, made.body)
        self.put((ODD, "t"), b"31")
        seen = crawl(self.visitor, _ADDRESSES)
        self.assertIn("/admin/operations" + path_uri((ODD, "t", "Operations", ODD)), seen)
