"""Which limit holds for which journal."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.seen import Bounds
from m2mapp.store.settings import StoreSettings
from m2mapp.tree.unit import GROUP_REQUESTS, REQUESTS


class SettingsTests(SynchronousTestCase):
    def test_by_name(self) -> None:
        """The values of a resource, all changes, requests that were done, and the others have limits of their own."""
        settings = StoreSettings()
        self.assertEqual(settings.journal("values/a").entries, 100)
        self.assertEqual(settings.journal("changes").entries, 10_000)
        self.assertEqual(settings.journal("audit").entries, 1_000)
        self.assertEqual(settings.journal("values"), settings.others)
        self.assertEqual({settings.journal(name).entries for name in (REQUESTS, GROUP_REQUESTS)}, {Bounds().writes})

    def test_the_reserve_is_enough(self) -> None:
        """With the reserve given free a whole log can be taken over into the database, even where every page of it is new."""
        settings = StoreSettings()
        self.assertGreater(settings.reserve_bytes, settings.wal_bytes)
