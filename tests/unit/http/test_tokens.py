"""Bearer tokens: whose a request is, how wrong ones are slowed down, and the file of the administrator's token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.tokens import ADMIN_TOKEN, TokenFileError, Tokens, TokenSetting, load_tokens
from m2mapp.model.errors import TooManyRequests, Unauthenticated
from m2mapp.model.principal import NOBODY, Principal, Right, Role

GOOD = "a-good-token-for-tests"
SOURCE = "192.0.2.7"


def build(failures: int = 3) -> tuple[Tokens, Clock]:
    clock = Clock()
    return Tokens([(GOOD, Principal("good", frozenset({Right.READ})))], clock, failures), clock


class TokensTests(SynchronousTestCase):
    def test_good_token(self) -> None:
        """A token names its principal, with the address that it came from."""
        tokens, _ = build()
        expected = Principal("good", frozenset({Right.READ}), ((),), SOURCE)
        for field in (b"Bearer " + GOOD.encode(), b"bearer   " + GOOD.encode()):
            self.assertEqual(tokens.principal(field, SOURCE), expected)

    def test_no_token(self) -> None:
        """Without a token it is nobody, or who the node says that an address is."""
        tokens, clock = build()
        self.assertIs(tokens.principal(None, SOURCE), NOBODY)
        neighbours = Tokens([], clock, 3, lambda source: Principal("link", source=source))
        self.assertEqual(neighbours.principal(None, SOURCE), Principal("link", source=SOURCE))

    def test_wrong_tokens(self) -> None:
        """Anything else in the field is refused, and not repeated in the answer."""
        for field in (
            b"",
            b"Bearer",
            b"Bearer x",
            b"Basic YTpi",
            GOOD.encode(),
            b"Bearer " + GOOD.encode() + b" x",
            b"Bearer \xff",
            b"Bearer a,b",
        ):
            tokens, _ = build()
            fault = self.assertRaises(Unauthenticated, tokens.principal, field, SOURCE)
            self.assertNotIn("YTpi", fault.detail)

    def test_too_many_wrong_tokens(self) -> None:
        """After some wrong tokens an address is refused, whatever it shows, until the minute is over; others are not."""
        tokens, clock = build()
        clock.advance(1000)
        for _ in range(3):
            self.assertRaises(Unauthenticated, tokens.principal, b"Bearer wrong", SOURCE)
            clock.advance(10)
        fault = self.assertRaises(TooManyRequests, tokens.principal, b"Bearer " + GOOD.encode(), SOURCE)
        self.assertEqual(fault.retry_after_s, 30)
        self.assertIs(tokens.principal(None, SOURCE), NOBODY)
        self.assertEqual(tokens.principal(b"Bearer " + GOOD.encode(), "192.0.2.8").name, "good")
        clock.advance(30)
        self.assertEqual(tokens.principal(b"Bearer " + GOOD.encode(), SOURCE).name, "good")

    def test_the_table_is_bounded(self) -> None:
        """However many addresses fail, only the latest are remembered."""
        tokens, _ = build(1)
        for number in range(3000):
            self.assertRaises(Unauthenticated, tokens.principal, b"Bearer wrong", f"2001:db8::{number:x}")
        self.assertRaises(TooManyRequests, tokens.principal, b"Bearer wrong", "2001:db8::bb7")
        self.assertRaises(Unauthenticated, tokens.principal, b"Bearer wrong", "2001:db8::1")

    def test_nothing_secret_is_logged(self) -> None:
        """The log says that an address is refused, not what it tried."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        tokens, _ = build(1)
        self.assertRaises(Unauthenticated, tokens.principal, b"Bearer SECRET", SOURCE)
        self.assertEqual(len(events), 1)
        self.assertNotIn("SECRET", repr(events))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.state.mkdir()
        self.file = self.state / ADMIN_TOKEN

    def test_first_start(self) -> None:
        """The first start writes a token of 256 bits, for its owner only; later ones use it."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        ((token, principal),) = load_tokens(str(self.state), ())
        self.assertEqual(self.file.read_text(), token + "\n")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertGreaterEqual(len(token), 43)
        self.assertTrue(principal.may(Right.ADMIN, ()))
        self.assertEqual(load_tokens(str(self.state), ())[0][0], token)
        self.assertEqual([file.name for file in self.state.iterdir()], [ADMIN_TOKEN])

    def test_what_a_crash_left(self) -> None:
        """A token file that was being written when the power went is written again."""
        (self.state / (ADMIN_TOKEN + ".new")).write_text("half")
        load_tokens(str(self.state), ())
        self.assertEqual([file.name for file in self.state.iterdir()], [ADMIN_TOKEN])

    def test_mode_is_put_right(self) -> None:
        """A token file that others can read is closed to them again."""
        self.file.write_text("x" * 40)
        self.file.chmod(0o644)
        load_tokens(str(self.state), ())
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    def test_configured_tokens(self) -> None:
        """Further tokens have their name, the rights of their role, and their scopes."""
        other = self.state / "other"
        other.write_text("  a-token-of-an-operator \n")
        setting = TokenSetting("ops", Role.OPERATOR, str(other), (("groups",),))
        token, principal = load_tokens(str(self.state), (setting,))[1]
        self.assertEqual((token, principal.name), ("a-token-of-an-operator", "ops"))
        self.assertTrue(principal.may(Right.WRITE, ("groups", "x")))
        self.assertFalse(principal.may(Right.WRITE, ("a",)))
        self.assertFalse(principal.may(Right.ADMIN, ("groups",)))

    def test_bad_files(self) -> None:
        """A file that is missing, empty, too short, too long or no token is refused by its name; its content is not shown."""
        other = self.state / "other"
        setting = TokenSetting("ops", Role.VIEWER, str(other))
        self.assertIn("other", str(self.assertRaises(TokenFileError, load_tokens, str(self.state), (setting,))))
        for content in (b"", b"short", b"SECRET" * 100, b"SECRET two words in it", b"SECRET\xff" * 5, b"SECRET-SECRET-SECRET\nsecond"):
            other.write_bytes(content)
            error = str(self.assertRaises(TokenFileError, load_tokens, str(self.state), (setting,)))
            self.assertIn("other", error)
            self.assertNotIn("SECRET", error)

    def test_empty_admin_token(self) -> None:
        """An empty administrator's file is never taken for a token."""
        self.file.write_text("")
        self.assertRaises(TokenFileError, load_tokens, str(self.state), ())
