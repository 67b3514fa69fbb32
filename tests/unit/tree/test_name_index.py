"""`tree.name_index`: names by key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.tree.name_index import NameIndex


class NameIndexTests(SynchronousTestCase):
    def test_keys_find_all_their_names(self) -> None:
        """A key finds each name that was added and not removed, however many there are."""
        index = NameIndex()
        for name in ("d1", "d2", "d3", "d3"):
            index.add("host", name)
        self.assertEqual(sorted(index.names("host")), ["d1", "d2", "d3"])
        index.remove("host", "d2")
        self.assertEqual(sorted(index.names("host")), ["d1", "d3"])

    def test_last_name_leaves_nothing(self) -> None:
        """After the last name of a key is removed nothing is kept of the key, by whichever way it came to be the last."""
        index = NameIndex()
        index.add("one", "d1")
        index.add("two", "d1")
        index.add("two", "d2")
        for key, name in (("one", "d1"), ("two", "d1"), ("two", "d2")):
            index.remove(key, name)
        self.assertEqual((list(index.names("one")), list(index.names("two")), index._names), ([], [], {}))

    def test_removing_what_is_not_there(self) -> None:
        """Removing an unknown key, or another's name, changes nothing."""
        index = NameIndex()
        index.add("host", "d1")
        index.remove("host", "d2")
        index.remove("other", "d1")
        self.assertEqual(list(index.names("host")), ["d1"])

    def test_clear(self) -> None:
        """A cleared index finds nothing."""
        index = NameIndex()
        index.add("host", "d1")
        index.clear()
        self.assertEqual(list(index.names("host")), [])
