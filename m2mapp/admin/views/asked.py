"""Asked: one group request, its answers as they come in, who was asked again, and who stayed silent."""

from __future__ import annotations

from m2mapp.admin.asking import Asking, Askings, Heard
from m2mapp.admin.groupings import CONTENT, GROUPS
from m2mapp.admin.pages import Answer, Page, Shown
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import NoSuchResource
from m2mapp.model.messages import Method
from m2mapp.tree.access import check_access

NAME = "asked"
_SHOWN = 200
ONLY = {"": "all answers", "repair": "those asked again", "failed": "those that refused"}
"""Which answers are shown, by the value of the query `only`."""


def asked(askings: Askings) -> Page:
    """The page."""

    async def show(visit: Visit) -> Answer:
        one = askings.find(visit.rest[0]) if len(visit.rest) == 1 else None
        if one is None:
            raise NoSuchResource(f"/admin/{NAME}/{'/'.join(visit.rest)}")
        check_access(visit.principal, Method.GET, (*GROUPS, one.group, CONTENT))
        return Shown("asked.html", _values(visit, one), f"{_verb(one)} {one.group}")

    return Page(NAME, "Asked", show, listed=False)


def _values(visit: Visit, one: Asking) -> dict[str, object]:
    only = visit.query("only") if visit.query("only") in ONLY else ""
    heard = list(one.heard.values())
    wanted = [each for each in reversed(heard) if _is_wanted(each, only)]
    missing = one.silent if one.over else one.awaited
    return {
        "one": one,
        "verb": _verb(one),
        "only": only,
        "choices": ONLY,
        "heard": wanted[:_SHOWN],
        "wanted": len(wanted),
        "missing": missing[:_SHOWN],
        "silent": len(missing),
        "repaired": sum(1 for each in heard if each.via == "repair"),
        "failed": sum(1 for each in heard if not each.ok),
        "datagrams": one.summary.get("datagrams") if one.summary is not None else None,
        "took_ms": one.summary.get("ms") if one.summary is not None else None,
    }


def _verb(one: Asking) -> str:
    return "Read of" if one.request.method is Method.GET else "Write to"


def _is_wanted(each: Heard, only: str) -> bool:
    if only == "repair":
        return each.via == "repair"
    return not each.ok if only == "failed" else True
