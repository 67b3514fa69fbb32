"""How faults are told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import faults, things
from m2mapp.coap.message import build, parse
from m2mapp.model import errors


class FaultTests(SynchronousTestCase):
    def test_every_fault_has_a_code(self) -> None:
        """The table has each kind there is, and no other."""
        self.assertEqual({fault.kind for fault in errors.every_fault()}, set(faults.CODES))

    def test_every_code_is_an_error(self) -> None:
        """Each code is of class 4 or 5."""
        self.assertEqual({code >> 5 for code in faults.CODES.values()}, {4, 5})

    def test_diagnostic(self) -> None:
        """The payload names kind, field, value and trace; it is UTF-8 of bounded size, even where that cuts a character."""
        message = faults.fault_message(errors.Malformed("Uri-Path", "x\u00e4", "UTF-8"), b"t", "abc")
        self.assertEqual(message.payload.decode(), "malformed: Uri-Path: x\u00e4 is not UTF-8 (trace abc)")
        long = faults.fault_message(errors.Conflict("\u00e4" * 1000), b"t", "abc")
        self.assertLess(len(long.payload.decode().encode()), 600)

    def test_options(self) -> None:
        """When to come again, how much is taken, and that a loop must not be cached."""
        self.assertEqual(faults.fault_message(errors.Overloaded(retry_after_s=7), b"", "").first(things.MAX_AGE), b"\x07")
        self.assertEqual(faults.fault_message(errors.TooManyRequests(), b"", "").first(things.MAX_AGE), b"\x01")
        self.assertEqual(faults.fault_message(errors.TooLarge("payload", 1024), b"", "").first(things.SIZE1), b"\x04\x00")
        loop = faults.fault_message(errors.LoopDetected(), b"", "")
        self.assertEqual((loop.code, loop.first(things.MAX_AGE)), (0xA8, b""))

    def test_all_build(self) -> None:
        """Every fault's message can be sent."""
        for fault in (errors.Forbidden("no"), errors.NoSuchResource("/x"), errors.NotAcceptable(("a/b",)), errors.StorageFull()):
            message = faults.fault_message(fault, b"tok", "0" * 32)
            self.assertEqual(parse(build(message)), message)
