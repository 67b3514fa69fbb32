"""A node with pages and a real group service without sockets, for the tests of the pages of groups."""

from __future__ import annotations

import html
import re

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.model.interfaces import IHandle
from m2mapp.model.messages import Request, Response
from tests.unit.admin.harness import House, Visitor
from tests.unit.groups.parts import GROUP_TYPES, Groups, build_groups
from tests.unit.http.harness import Answer


@implementer(IHandle)
class Late:
    """Hands requests to the group service, which is built after the tree that it stands on."""

    groups: Groups

    def handle(self, request: Request) -> Response | Deferred[Response]:
        return self.groups.service.handle(request)


class GroupsCase(SynchronousTestCase):
    """A node whose groups have devices; a visitor who may do all."""

    def setUp(self) -> None:
        late = Late()
        self.house = House(types=GROUP_TYPES, routes={("groups",): late})
        self.groups = late.groups = build_groups(3, built=self.house.built)
        self.visitor: Visitor = self.house.signed_in()

    def tearDown(self) -> None:
        self.groups.service.stopService()
        self.house.stop()
        for done in self.groups.asked:
            done.addErrback(lambda _: None)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertEqual(self.groups.clock.getDelayedCalls(), [])
        self.assertEqual(self.house.built.errors, [])

    def page(self, target: str, visitor: Visitor | None = None) -> str:
        """What a page that is there says: its HTML without entities."""
        answer = (visitor or self.visitor).get(target)
        self.assertEqual(answer.code, 200, answer.body.decode())
        return text_of(answer)

    def done(self, answer: Answer) -> str:
        """Where an action that was done leads to."""
        self.assertEqual(answer.code, 303, answer.body.decode())
        return answer.headers["location"]

    def part(self, target: str, key: str) -> str:
        """The words in one part of a page."""
        return words(self.page(target), key)


def text_of(answer: Answer) -> str:
    """The HTML of a page, without entities."""
    return html.unescape(answer.body.decode())


def words(page: str, key: str) -> str:
    """The words in the element of that id, up to the next section."""
    found = re.search(rf'id="{key}".*?(?=<section|</main>|<form method="get")', page, re.DOTALL)
    assert found is not None, f"there is no {key}"
    return " ".join(re.sub(r"<[^>]*>", " ", found[0].partition(">")[2]).split())
