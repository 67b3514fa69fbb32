"""Names of registrations by what they are found by: hosts, addresses, sources. Derived from the tree, never a second truth."""

from __future__ import annotations

from collections.abc import Collection


class NameIndex:
    """Keys to names. Adding and removing cost the same however many names a key has; most have one, which is kept without a set."""

    def __init__(self) -> None:
        self._names: dict[str, str | set[str]] = {}

    def add(self, key: str, name: str) -> None:
        """The key finds this name too; adding it twice is no error."""
        held = self._names.get(key)
        if held is None or held == name:
            self._names[key] = name
        elif isinstance(held, str):
            self._names[key] = {held, name}
        else:
            held.add(name)

    def remove(self, key: str, name: str) -> None:
        """The key does not find this name any more; one that it did not find is no error."""
        held = self._names.get(key)
        if held == name:
            del self._names[key]
        elif isinstance(held, set):
            held.discard(name)
            if not held:
                del self._names[key]

    def names(self, key: str) -> Collection[str]:
        """The names of a key, in no particular order. Not to be changed, nor kept over a change."""
        held = self._names.get(key)
        if held is None:
            return ()
        return (held,) if isinstance(held, str) else held

    def clear(self) -> None:
        """Nothing is found any more."""
        self._names.clear()
