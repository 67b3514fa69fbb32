"""Reports pushed by HTTP: which request tells the server of which devices, and what its answer means (spec section 9). Pure.

`PUT /gateways/<name>/devices/<duid>` for one and DELETE for one that is gone; `PUT /gateways/<name>/devices` where all devices are told of,
PATCH (RFC 7396) where some are. Not responsible for when (`drivers.pushing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from m2mapp.formats.documents import JSON, MERGE_PATCH, dump_json, load_json
from m2mapp.formats.uris import Uri, path_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import new_trace
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.principal import NODE
from m2mapp.tree.unit import Document

GATEWAYS, DEVICES = "gateways", "devices"
REQUEST_TIMEOUT_S: Final = 30.0
_REFUSED: Final = frozenset({"400", "406", "409", "413", "415", "422"})
"""Answers by which a server says that it will never take this report; any other failure may pass."""


class Verdict(Enum):
    """What an answer means for the reports that were sent."""

    CONFIRMED = "the server has them"
    REFUSED = "the server does not take them"
    AGAIN = "they are sent again"


@dataclass(frozen=True, slots=True)
class Target:
    """Where reports go: the server's URI, the gateway's name there."""

    server: Uri
    gateway: str

    def uri(self, *more: str) -> str:
        """The URI of the gateway at the server, or of what is below it."""
        return f"{self.server.scheme}://{self.server.authority}{path_uri((*self.server.path, GATEWAYS, self.gateway, *more))}"

    def greeting(self) -> Outgoing:
        """Asks whether the server knows the gateway: it may have lost all that it was told."""
        return _outgoing(Method.GET, self.uri(), None)

    def one(self, duid: str, report: Document | None) -> Outgoing:
        """Tells of one device; None: it is gone."""
        if report is None:
            return _outgoing(Method.DELETE, self.uri(DEVICES, duid), None)
        return _outgoing(Method.PUT, self.uri(DEVICES, duid), report)

    def many(self, reports: Mapping[str, Document | None], *, whole: bool) -> Outgoing:
        """Tells of several devices in one request. `whole`: there are no others."""
        if whole:
            return _outgoing(Method.PUT, self.uri(DEVICES), {duid: report for duid, report in reports.items() if report is not None})
        return _outgoing(Method.PATCH, self.uri(DEVICES), reports)


def _outgoing(method: Method, uri: str, document: Document | None) -> Outgoing:
    payload = b"" if document is None else dump_json(document)
    kind = None if document is None else MERGE_PATCH if method is Method.PATCH else JSON
    return Outgoing(method, uri, payload, kind, timeout_s=REQUEST_TIMEOUT_S, trace=new_trace(), principal=NODE)


def is_unknown(answer: Answer) -> bool:
    """Whether the server knows nothing there: 404, or 4.04 where this node is the server itself."""
    return _code(answer) == "404"


def _code(answer: Answer) -> str:
    """The answer's code as HTTP has it: a node's answers to itself have CoAP's."""
    return answer.code.replace(".", "")


def verdict(method: Method, answer: Answer) -> Verdict:
    """What an answer to one of these requests means. A device that is gone is gone where the server never knew it."""
    if answer.ok or (method is Method.DELETE and is_unknown(answer)):
        return Verdict.CONFIRMED
    return Verdict.REFUSED if _code(answer) in _REFUSED else Verdict.AGAIN


def not_taken(answer: Answer) -> Mapping[str, str]:
    """The devices that the server, which took the others of the request, does not take, and why: `{"refused": {duid: why}}`."""
    if not answer.payload:
        return {}
    try:
        document = load_json(answer.payload)
    except Fault:
        return {}
    refused = document.get("refused") if isinstance(document, dict) else None
    return {duid: str(why) for duid, why in refused.items()} if isinstance(refused, dict) else {}


def reason(answer: Answer) -> str:
    """Why the server refused, for a person: the detail of its problem document (RFC 9457), or what it said."""
    try:
        document = load_json(answer.payload)
    except Fault:
        document = None
    detail = document.get("detail") if isinstance(document, dict) else None
    return f"{answer.code} {detail or answer.payload[:200].decode(errors='replace')}".strip()
