"""Names of resources by what they are found by: hosts, addresses, sources. Derived from the tree, never a second truth."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class NameIndex:
    """Keys to names, in the order in which they were added last.

    Adding and removing cost the same however many names a key has; most have one, which is kept without a collection of its own.
    """

    def __init__(self) -> None:
        self._names: dict[str, str | dict[str, None]] = {}

    def add(self, key: str, name: str) -> None:
        """The key finds this name too; one that it found already becomes the last."""
        held = self._names.get(key)
        if held is None or held == name:
            self._names[key] = name
        elif isinstance(held, str):
            self._names[key] = {held: None, name: None}
        else:
            held.pop(name, None)
            held[name] = None

    def remove(self, key: str, name: str) -> None:
        """The key does not find this name any more; one that it did not find is no error."""
        held = self._names.get(key)
        if held == name:
            del self._names[key]
        elif isinstance(held, dict):
            held.pop(name, None)
            if not held:
                del self._names[key]

    def names(self, key: str) -> Collection[str]:
        """The names of a key. Not to be changed, nor kept over a change."""
        held = self._names.get(key)
        if held is None:
            return ()
        return (held,) if isinstance(held, str) else held.keys()

    def last_first(self, key: str) -> Iterable[str]:
        """The names of a key, the one added last first."""
        held = self._names.get(key)
        if held is None:
            return ()
        return (held,) if isinstance(held, str) else reversed(held)

    def clear(self) -> None:
        """Nothing is found any more."""
        self._names.clear()
