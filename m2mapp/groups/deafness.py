"""Which members do not hear their multicast group any more: silent to several group requests, and answering when they are asked alone.

Such a device may have lost the group (it started anew and did not register yet) and is asked what it holds. Pure; bounded in number.
"""

from __future__ import annotations

from collections import OrderedDict

from m2mapp.groups.results import GroupResults

DEAF_AFTER = 8
"""So many repairs in succession. With one packet in five lost each way that happens by chance to one member in 3,500. To ask a device that
hears badly is not free: the question stands before the next repair in the device's line (NSTART, RFC 7252, section 4.7)."""
AGAIN_S = 600.0
"""A member is suspected at most once in so many seconds: the network between may be what does not carry the group."""
MOST_KEPT = 20_000


class Deafness:
    """Repairs in succession, by group and member."""

    def __init__(self) -> None:
        self._repairs: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many members are counted."""
        return len(self._repairs)

    def heard(self, results: GroupResults, now: float) -> list[str]:
        """The members that are suspected after these results. `now` is in monotonic seconds."""
        suspects = []
        for uri, result in results.members.items():
            if result.via == "multicast":
                if self._repairs:
                    self._repairs.pop((results.group, uri), None)
            elif result.via == "repair":
                key = (results.group, uri)
                count, not_before = self._repairs.get(key, (0, now))
                if count + 1 >= DEAF_AFTER and now >= not_before:
                    suspects.append(uri)
                    self._repairs[key] = (0, now + AGAIN_S)
                else:
                    self._repairs[key] = (count + 1, not_before)
                self._repairs.move_to_end(key)
        while len(self._repairs) > MOST_KEPT:
            self._repairs.popitem(last=False)
        return suspects
