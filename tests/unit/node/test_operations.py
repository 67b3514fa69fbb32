"""What operations are told of the node: which URIs are its own, and what who wrote them may still do."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.records import RECORD_TYPES, User, user_write
from m2mapp.clients.names import OwnUris
from m2mapp.coap.settings import AccessSettings, CoapSettings
from m2mapp.config import NodeSettings, Settings
from m2mapp.http.settings import HttpSettings
from m2mapp.http.tokens import ADMINISTRATOR, TokenSetting
from m2mapp.model.principal import NODE, ROLE_RIGHTS, Principal, Right, Role
from m2mapp.node.operations import own_paths
from m2mapp.node.rights import current_rights
from m2mapp.tree.unit import Remove, Unit
from tests.unit.fakes import build_tree

COAP = CoapSettings((("fd00::1", 5683),), ("eth0",), AccessSettings(write=("link",)))
HTTP = HttpSettings(("tcp:8080",), (TokenSetting("ann", Role.VIEWER, "/t", (("a",),)),))
SETTINGS = Settings(NodeSettings("g1", (), "/s"), http=HTTP, coap=COAP)


class CurrentRightTests(SynchronousTestCase):
    def test_tokens(self) -> None:
        """A token has the rights and the subtrees of the configuration now, not those that it had; one that is gone has none."""
        current = current_rights(SETTINGS, build_tree().tree)
        before = Principal("ann", ROLE_RIGHTS[Role.OPERATOR], ((),), "fd00::9")
        self.assertEqual(current(before), Principal("ann", ROLE_RIGHTS[Role.VIEWER], (("a",),), "fd00::9"))
        self.assertEqual(current(replace(before, name="bob")).rights, frozenset())
        for principal in (NODE, ADMINISTRATOR):
            self.assertEqual(current(principal), principal)

    def test_accounts(self) -> None:
        """A user, or a token made on the pages, has the rights of today; no configured token that is named alike lends its own."""
        built = build_tree(RECORD_TYPES)
        current = current_rights(SETTINGS, built.tree)
        self.successResultOf(built.committer.commit(Unit((user_write(User("ann", Role.OPERATOR, ((),), "")),))))
        before = Principal("user ann", ROLE_RIGHTS[Role.ADMIN])
        self.assertEqual(current(before), Principal("user ann", ROLE_RIGHTS[Role.OPERATOR]))
        self.successResultOf(built.committer.commit(Unit((Remove(("admin", "users", "ann")),))))
        self.assertEqual(current(before).rights, frozenset())

    def test_sources(self) -> None:
        """Who came by CoAP keeps what it had, as far as anybody has that right now."""
        had = frozenset({Right.READ, Right.WRITE, Right.DISCOVER})
        for name in ("coap:fd00::9", "cert:dev-one"):
            principal = Principal(name, had)
            self.assertEqual(current_rights(SETTINGS, build_tree().tree)(principal).rights, had)
            closed = replace(SETTINGS, coap=replace(COAP, access=AccessSettings()))
            self.assertEqual(current_rights(closed, build_tree().tree)(principal).rights, had - {Right.WRITE})
            self.assertEqual(current_rights(replace(SETTINGS, coap=None), build_tree().tree)(principal).rights, {Right.DISCOVER})


class OwnPathTests(SynchronousTestCase):
    def test_own(self) -> None:
        """The path of what is this node's; None of what is not, or is no URI."""
        own = own_paths(OwnUris(("g1",), lambda _: False))
        self.assertEqual([own(uri) for uri in ("http://g1/a/b", "coap://g2/a", "nonsense")], [("a", "b"), None, None])
