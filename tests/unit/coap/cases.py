"""The ground of the server's tests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.message import Message
from m2mapp.model.messages import Request
from tests.unit.coap.fakes import Node


class ServerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])

    def ask(self, message: Message) -> Message:
        """The one answer to a message."""
        answers = self.node.receive(message)
        self.assertEqual(len(answers), 1, answers)
        return answers[0]

    def asked(self) -> Request:
        """The last request that the handler got."""
        return self.node.handler.requests[-1]
