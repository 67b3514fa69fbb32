"""Requests, principals and answers as values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Answer, Method, Request
from m2mapp.model.principal import NOBODY, NODE, ROLE_RIGHTS, Principal, Right, Role


class MessageTests(SynchronousTestCase):
    def test_query_values(self) -> None:
        """Of a key that stands several times the first value is taken; a bare key has the empty value; a missing one None."""
        request = Request(Method.GET, (), (("a", "1"), ("subtree", ""), ("a", "2")))
        self.assertEqual([request.query_value(key) for key in ("a", "subtree", "b")], ["1", "", None])

    def test_answers_that_went_well(self) -> None:
        """Codes of class 2, of CoAP or HTTP, went well; others did not."""
        self.assertEqual(
            [Answer(code).ok for code in ("2.05", "204", "4.04", "504", "unknown", "")], [True, True, False, False, False, False]
        )


class PrincipalTests(SynchronousTestCase):
    def test_scopes(self) -> None:
        """A right holds at and below the paths of the scopes, segment by segment, and nowhere else."""
        someone = Principal("x", frozenset({Right.READ}), (("groups", "g1"), ("temp",)))
        for path, may in (
            (("groups", "g1"), True),
            (("groups", "g1", "members"), True),
            (("groups",), False),
            (("groups", "g12"), False),
            ((), False),
            (("temp",), True),
        ):
            self.assertEqual(someone.may(Right.READ, path), may, path)
            self.assertFalse(someone.may(Right.WRITE, path))

    def test_who_may_what(self) -> None:
        """Nobody may nothing, the node may all; each role has the rights of the one before it and more."""
        for right in Right:
            self.assertFalse(NOBODY.may(right, ()))
            self.assertTrue(NODE.may(right, ("a",)))
        self.assertTrue(ROLE_RIGHTS[Role.VIEWER] < ROLE_RIGHTS[Role.OPERATOR] < ROLE_RIGHTS[Role.ADMIN])
        self.assertNotIn(Right.WRITE, ROLE_RIGHTS[Role.VIEWER])
        self.assertNotIn(Right.ADMIN, ROLE_RIGHTS[Role.OPERATOR])
