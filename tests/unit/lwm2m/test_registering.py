"""`lwm2m.registering`: what a client sends to stay registered, and when."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.registering import (
    GATHER_S,
    LONGEST_PAUSE_S,
    REGISTRATION,
    UPDATE_AT,
    Account,
    Event,
    Registration,
    State,
)
from m2mapp.model.errors import Malformed
from m2mapp.model.messages import Answer, Method

ACCOUNT = Account(parse_uri("coap://[fd00::b5]"), "g1.example.org", 400)
CREATED, CHANGED = Answer("2.01", location="/rd/a%20b"), Answer("2.04")
LINKS = "</3/0>"


def registered(account: Account = ACCOUNT) -> Registration:
    """A client that has registered at second 0; its times are the latest that they can be."""
    registration = Registration(account, lambda: 0.0)
    registration.start(0.0)
    registration.ask(LINKS)
    registration.answered(CREATED, 0.0)
    return registration


class RegistrationTests(SynchronousTestCase):
    def test_register(self) -> None:
        """A client says its name, version, binding, lifetime and objects; its updates go to the Location, with objects only if new."""
        registration = Registration(ACCOUNT, lambda: 0.5)
        registration.start(10.0)
        self.assertEqual(registration.wake_at, 10.5)
        sent = registration.ask(LINKS)
        self.assertEqual(sent.uri, "coap://[fd00::b5]/rd?lwm2m=1.1&ep=g1.example.org&b=U&lt=400")
        self.assertEqual((sent.method, sent.payload, sent.content_type), (Method.POST, b"</3/0>", LINK_FORMAT))
        self.assertTrue(registration.answered(CREATED, 11.0))
        self.assertEqual(registration.wake_at, 11.0 + 400 * UPDATE_AT * 0.95)
        update = registration.ask(LINKS)
        self.assertEqual((update.method, update.uri, update.payload), (Method.POST, "coap://[fd00::b5]/rd/a%20b", b""))
        registration.answered(CHANGED, 300.0)
        self.assertEqual(registration.ask("</3/0>,</33050/0>").payload, b"</3/0>,</33050/0>")

    def test_changes_are_gathered(self) -> None:
        """Any number of changes make one update; one that comes while the server is being told makes another."""
        registration = registered()
        registration.changed(5.0)
        registration.changed(5.5)
        self.assertEqual(registration.wake_at, 5.0 + GATHER_S)
        registration.ask("</3/0>,</33050/0>")
        registration.changed(6.5)
        self.assertIsNone(registration.wake_at)
        registration.answered(CHANGED, 7.0)
        self.assertEqual(registration.wake_at, 7.0 + GATHER_S)

    def test_trigger(self) -> None:
        """A server that asks for an update gets it at once."""
        registration = registered()
        registration.renew(3.0)
        self.assertEqual(registration.wake_at, 3.0)

    def test_unknown(self) -> None:
        """A server that answers an update with 4.04 is registered at anew, at once, with all objects."""
        registration = registered()
        registration.ask(LINKS)
        self.assertFalse(registration.answered(Answer("4.04"), 300.0))
        self.assertEqual((registration.wake_at, registration.location), (300.0, None))
        self.assertEqual(registration.ask(LINKS).payload, LINKS.encode())

    def test_pauses_grow(self) -> None:
        """A server that refuses or is silent is asked again after pauses that double up to the longest; then they begin anew."""
        registration = Registration(ACCOUNT, lambda: 0.0)
        registration.start(0.0)
        pauses: list[float | None] = []
        for _ in range(12):
            registration.ask(LINKS)
            if len(pauses) % 2:
                registration.answered(Answer("4.03"), 0.0)
            else:
                registration.failed(0.0)
            pauses.append(registration.wake_at)
        self.assertEqual(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, *[LONGEST_PAUSE_S] * 3])
        registration.ask(LINKS)
        registration.answered(CREATED, 0.0)
        registration.ask(LINKS)
        registration.failed(1.0)
        self.assertEqual(registration.wake_at, 1.0)

    def test_older_server(self) -> None:
        """A server that does not serve the version (4.12) is told the first one next."""
        registration = Registration(ACCOUNT, lambda: 0.0)
        registration.start(0.0)
        registration.ask(LINKS)
        registration.answered(Answer("4.12"), 0.0)
        self.assertIn("lwm2m=1.0&", registration.ask(LINKS).uri)

    def test_leave(self) -> None:
        """A client that stops deregisters where it is registered, and may start again; where it is not it sends nothing."""
        registration = registered()
        farewell = registration.leave()
        self.assertEqual(farewell and (farewell.method, farewell.uri), (Method.DELETE, "coap://[fd00::b5]/rd/a%20b"))
        self.assertIsNone(registration.wake_at)
        registration.start(9.0)
        self.assertIsNone(registration.leave())
        registration.start(10.0)
        self.assertEqual(registration.ask(LINKS).payload, LINKS.encode())

    def test_bad_location(self) -> None:
        """An answer without the place of the registration is a failure that says so, and is tried again."""
        for location in (None, "", "/rd//x", "http://elsewhere/rd/1"):
            with self.subTest(location):
                registration = Registration(ACCOUNT, lambda: 0.0)
                registration.start(0.0)
                registration.ask(LINKS)
                self.assertRaises(Malformed, registration.answered, Answer("2.01", location=location), 5.0)
                self.assertEqual((registration.state, registration.wake_at), (State.OUT, 6.0))

    def test_table(self) -> None:
        """What cannot happen raises and changes nothing; every state can be left, and stopping is possible in all but the last."""
        registration = registered()
        self.assertRaises(KeyError, registration.start, 0.0)
        self.assertEqual(registration.state, State.REGISTERED)
        self.assertEqual({state for state, event in REGISTRATION if event is Event.STOP}, set(State) - {State.LEFT})
