"""What planning a group of 10,000 members costs, and what one member more does: `python -m tests.bench.plan`.

Measures the decision alone, with every device registered: from the members' URIs to the unit that is committed. Each figure is the best of
several rounds, in processor time, since other work on the machine only ever adds to it.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping

from m2mapp.formats.documents import dump_cbor
from m2mapp.groups import edit
from m2mapp.groups.elsewhere import Elsewhere
from m2mapp.groups.group import group_types
from m2mapp.groups.ledger import AddressLedger, Taking
from m2mapp.groups.pool import derived_pool
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.messages import Method, Request
from m2mapp.registry.scl import SCL_TYPE, check
from m2mapp.tree.registrations import SCL, SCLS, Registrations
from m2mapp.tree.resources import Decision
from m2mapp.tree.unit import Unit, Write
from tests.bench.report import Row, table
from tests.unit.fakes import ask, build_tree

_MEMBERS = 10_000
_TARGET_MS = 200.0
_ROUNDS = 7
_NAME = "g1.example.org"


def _uris(path_of: Callable[[int], str], count: int = _MEMBERS) -> list[str]:
    return [f"coap://d{number}.example.org{path_of(number)}" for number in range(count)]


def main() -> list[Row]:
    """The rows of the report."""
    built = build_tree((SCL_TYPE, *group_types(lambda name: f"http://{_NAME}/groups/{name}")))
    for number in range(_MEMBERS):
        document = {"hosts": [f"d{number}.example.org"], "addresses": [f"fd00::{number:x}"], "multicastEnabled": True}
        built.committer.commit(Unit((Write((*SCLS, f"d{number}"), SCL, check("", document)),)))
    registrations = Registrations(built.tree)
    around = edit.Surroundings(
        built.tree, registrations, lambda uri: uri.host == _NAME, GroupSettings(), Elsewhere(registrations), _NAME, f"http://{_NAME}"
    )
    ledger = AddressLedger(lambda: derived_pool(_NAME, None))

    def decide(method: Method, path: str, document: Mapping[str, object], decide_it: Callable[..., Decision]) -> tuple[float, Decision]:
        request = ask(method, path, dump_cbor(document), "application/cbor")
        best, decision = 1e9, None
        for _ in range(_ROUNDS):
            take = Taking(ledger)
            gc.collect()
            began = time.process_time()
            decision = decide_it(request, take)
            best = min(best, time.process_time() - began)
            take.dropped()
        if decision is None:
            raise RuntimeError("no round")
        return best * 1000, decision

    def create(request: Request, take: Taking) -> Decision:
        return edit.created(around, "all", request, take)

    rows = []
    for what, path_of in (("one path", lambda _: "/t"), ("a third with paths of their own", lambda n: "/t" if n % 3 else f"/p{n}")):
        ms, decision = decide(Method.POST, "/groups", {"members": _uris(path_of)}, create)
        note = f"{len(decision.unit.changes) - 1} fan-out sets"
        rows.append(Row(f"planning {_MEMBERS:,} members, {what} (ms)", ms, "the target", _TARGET_MS, ms / _TARGET_MS, note))
    _, decision = decide(Method.POST, "/groups", {"members": _uris(lambda _: "/t", _MEMBERS - 1)}, create)
    built.committer.commit(decision.unit)
    one_more = {"members": _uris(lambda _: "/t")[-1:]}
    ms, decision = decide(Method.POST, "/groups/all/members", one_more, lambda request, take: edit.members_changed(around, request, take))
    written = sum(len(dump_cbor(change.attributes)) for change in decision.unit.changes if isinstance(change, Write))
    note = f"{len(decision.unit.changes)} resources of {written / 1000:,.0f} kB in all are written"
    rows.append(Row("one member more (ms)", ms, "the target", _TARGET_MS, ms / _TARGET_MS, note))
    return rows


if __name__ == "__main__":
    sys.stdout.write(table(main()))
