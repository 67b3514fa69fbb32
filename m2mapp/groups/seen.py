"""Which group requests were here already, so that a request which comes back by another way ends (spec section 6).

In memory, bounded in time and number: the oldest is forgotten first. Pure; `now` is in monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict

from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method

KEEP_S = 247.0
"""EXCHANGE_LIFETIME (RFC 7252, section 4.8.2)."""
MAX_KEPT = 100_000


class SeenRequests:
    """Identifiers of the requests of the last minutes, each with its method and target."""

    def __init__(self, keep_s: float = KEEP_S, most: int = MAX_KEPT) -> None:
        self._keep_s, self._most = keep_s, most
        self._seen: OrderedDict[tuple[bytes, Method, Path], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def first_time(self, request_id: bytes, method: Method, target: Path, now: float) -> bool:
        """Whether this request was not here before; it is remembered from now on."""
        while self._seen and (len(self._seen) >= self._most or next(iter(self._seen.values())) <= now - self._keep_s):
            self._seen.popitem(last=False)
        key = (request_id, method, target)
        if key in self._seen:
            return False
        self._seen[key] = now
        return True
