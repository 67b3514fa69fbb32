"""Which limit holds for which journal."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.seen import Bounds
from m2mapp.store.settings import JournalLimit, StoreSettings
from m2mapp.tree.unit import GROUP_REQUESTS, OPERATIONS, REQUESTS, RUNS, records_journal
from m2mapp.triggers import state_log


class SettingsTests(SynchronousTestCase):
    def test_by_name(self) -> None:
        """The values of a resource, all changes, requests that were done, what operations did and keep, and the others have limits."""
        settings = StoreSettings()
        self.assertEqual(settings.journal("values/a").entries, 100)
        self.assertEqual(settings.journal("changes").entries, 10_000)
        self.assertEqual(settings.journal("audit").entries, 1_000)
        self.assertEqual(settings.journal(records_journal(RUNS, "/a/Operations/b")).entries, 200)
        self.assertEqual(settings.journal(OPERATIONS), JournalLimit(state_log.ENTRIES, state_log.SIZE_BYTES))
        self.assertEqual({settings.journal(name).entries for name in (REQUESTS, GROUP_REQUESTS)}, {Bounds().writes})

    def test_the_reserve_is_enough(self) -> None:
        """With the reserve given free a whole log can be taken over into the database, even where every page of it is new."""
        settings = StoreSettings()
        self.assertGreater(settings.reserve_bytes, settings.wal_bytes)
