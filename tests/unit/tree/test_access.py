"""The right that a request needs, and what is said to those who do not have it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Forbidden, Unauthenticated
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.model.principal import NOBODY, NODE, Principal, Right
from m2mapp.tree.access import DISCOVERY, check_access, needed


class AccessTests(SynchronousTestCase):
    def test_rights(self) -> None:
        """Each part of the tree has its right: reading, registering, advertising, writing, administration, discovery."""
        cases: tuple[tuple[Method, Path, Right], ...] = (
            (Method.GET, (), Right.READ),
            (Method.GET, ("temperature",), Right.READ),
            (Method.GET, ("mcGroups", "g"), Right.READ),
            (Method.GET, DISCOVERY, Right.DISCOVER),
            (Method.PUT, DISCOVERY, Right.WRITE),
            (Method.POST, (), Right.WRITE),
            (Method.PUT, ("temperature",), Right.WRITE),
            (Method.PUT, ("groups", "g", "membersContent"), Right.WRITE),
            (Method.POST, ("rd",), Right.REGISTER),
            (Method.DELETE, ("scls", "d1"), Right.REGISTER),
            (Method.POST, ("bs",), Right.REGISTER),
            (Method.GET, ("bspack",), Right.REGISTER),
            (Method.GET, ("bs", "fleet"), Right.READ),
            (Method.PUT, ("bs", "fleet"), Right.WRITE),
            (Method.PUT, ("mcGroups", "g"), Right.ADVERTISE),
            (Method.POST, ("coap-group",), Right.ADVERTISE),
            (Method.GET, ("admin",), Right.ADMIN),
            (Method.POST, ("admin", "users"), Right.ADMIN),
            (Method.GET, ("node", "wire"), Right.ADMIN),
            (Method.GET, ("node",), Right.READ),
            (Method.PUT, ("scls2",), Right.WRITE),
        )
        for method, path, right in cases:
            self.assertIs(needed(method, path), right, (method, path))

    def test_those_who_may(self) -> None:
        """Who has the right at the path passes."""
        check_access(NODE, Method.DELETE, ("a",))
        check_access(Principal("x", frozenset({Right.READ}), (("a",),)), Method.GET, ("a", "b"))

    def test_those_who_may_not(self) -> None:
        """Nobody is asked to sign in, somebody is refused; the right and the path are named."""
        reader = Principal("x", frozenset({Right.READ}), (("a",),))
        for method, path in ((Method.PUT, ("a",)), (Method.GET, ("b",)), (Method.GET, ()), (Method.GET, ("ab",))):
            self.assertRaises(Unauthenticated, check_access, NOBODY, method, path)
            self.assertIn("x has no right to", self.assertRaises(Forbidden, check_access, reader, method, path).detail)
        self.assertIn("write at /a", self.assertRaises(Forbidden, check_access, reader, Method.PUT, ("a",)).detail)
