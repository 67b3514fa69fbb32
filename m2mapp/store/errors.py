"""The one error that keeps a node from starting because of what it keeps on disk. Errors of requests are in `model.errors`."""

from __future__ import annotations


class StoreRefused(Exception):  # noqa: N818 - a fact, not a mistake of the program
    """The state directory, or a file in it, cannot be used. Nothing of it was changed; the text says which file and what to do."""
