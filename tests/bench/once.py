"""What the check of a request identifier costs with 100,000 of them kept: `python -m tests.bench.once`.

Half of them are writes and half reads, of many requesters. Each figure is the mean of many checks in the best of several rounds, in
processor time, since other work on the machine only ever adds to it.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc

from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.model.principal import Principal
from m2mapp.model.seen import KEEP_S, Bounds, SeenRequests
from tests.bench.report import Row, table

_KEPT = 100_000
_CHECKS = 20_000
_ROUNDS = 5
_TARGET_US = 5.0
_STEP_S = KEEP_S / _KEPT
"""So often one comes where as many are kept as come in the time for which each is."""
_ANSWER = Response(Status.CHANGED, etag=b"12345678")


def _request(number: int, method: Method) -> Request:
    who = Principal(f"coap:fd00::{number % 100:x}")
    path = ("sensors", "temperature")
    return Request(method, path, payload=b"21.5", content_type="text/plain", principal=who, request_id=number.to_bytes(8, "big"))


def _best_us(seen: SeenRequests, requests: list[list[Request]], *, done: bool, now: float = 1.0, step_s: float = 0.0) -> float:
    """`step_s`: so much later is each request than the one before it."""
    best = 1e9
    for round_ in requests:
        gc.collect()
        began = time.process_time()
        for request in round_:
            now += step_s
            one, is_due = seen.check(request, now)
            if done and is_due:
                seen.done(one, _ANSWER)
        best = min(best, (time.process_time() - began) / len(round_) * 1e6)
    return best


def main() -> list[Row]:
    """The rows of the report."""
    room = _KEPT // 2 + _ROUNDS * _CHECKS
    seen = SeenRequests(Bounds(writes=room, reads=room))
    kept = [_request(number, Method.PUT if number % 2 else Method.GET) for number in range(_KEPT)]
    tracemalloc.start()
    for request in kept:
        seen.done(seen.check(request, 0.0)[0], _ANSWER)
    size_bytes = tracemalloc.get_traced_memory()[0] / _KEPT
    tracemalloc.stop()
    rows = []

    def add(what: str, us: float, note: str = "") -> None:
        rows.append(Row(f"{what} (us)", us, "the target", _TARGET_US, us / _TARGET_US, note))

    for name, method in (("write", Method.PUT), ("read", Method.GET)):
        new = [_request(number, method) for number in range(_KEPT, _KEPT + _ROUNDS * _CHECKS)]
        rounds = [new[at : at + _CHECKS] for at in range(0, len(new), _CHECKS)]
        add(f"a new {name}, checked and remembered", _best_us(seen, rounds, done=True), f"{size_bytes:,.0f} bytes each")
    steady = SeenRequests(Bounds(writes=room))
    for number in range(_KEPT):
        steady.done(steady.check(_request(number, Method.PUT), number * _STEP_S)[0], _ANSWER)
    new = [_request(number, Method.PUT) for number in range(_KEPT, _KEPT + _ROUNDS * _CHECKS)]
    rounds = [new[at : at + _CHECKS] for at in range(0, len(new), _CHECKS)]
    us = _best_us(steady, rounds, done=True, now=KEEP_S, step_s=_STEP_S)
    add("a new write, with one forgotten for it", us, f"{len(steady):,} writes kept")
    known = [[request for request in kept if request.method is Method.PUT][:_CHECKS]] * _ROUNDS
    add("a write that was here", _best_us(seen, known, done=False))
    return rows


if __name__ == "__main__":
    sys.stdout.write(table(main()))
