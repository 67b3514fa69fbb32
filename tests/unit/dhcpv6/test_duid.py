"""DUIDs: this node's own, and which others may be."""

from __future__ import annotations

from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.duid import is_duid, new_duid


class DuidTests(SynchronousTestCase):
    def test_own(self) -> None:
        """This node's own is a DUID-UUID of 18 bytes."""
        duid = new_duid(UUID("12345678-1234-5678-1234-567812345678"))
        self.assertEqual(duid.hex(), "000412345678123456781234567812345678")
        self.assertTrue(is_duid(duid))

    def test_length(self) -> None:
        """Bytes that are too short or too long are no DUID."""
        self.assertEqual([is_duid(bytes(size)) for size in (0, 2, 3, 130, 131, 200)], [False, False, True, True, False, False])
