"""Room for what others send, shared by all who receive: how many bytes there may be of it at once. Pure."""

from __future__ import annotations

from m2mapp.model.errors import Overloaded


class Room:
    """So many bytes at most. `what` names them in the error; whoever takes some gives them back."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self.taken = 0

    def take(self, size: int) -> None:
        """Take so many more. Raises `Overloaded` where there is no room; nothing is taken then."""
        if self.taken + size > self._most:
            raise Overloaded(f"there are {self._most} bytes of {self._what} at most at once")
        self.taken += size

    def give_back(self, size: int) -> None:
        """So many are not there any more."""
        self.taken -= size
