"""The representations of a joined answer: which one a caller gets, and its bytes (spec section 4).

The joined document as JSON or CBOR; one line of JSON for each answer, then the summary (`application/x-ndjson`); SenML where all members
gave numbers. Pure. Not responsible for sending lines while they come: `lines`.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2mapp.formats.documents import (
    CBOR,
    JSON,
    NDJSON,
    RESULTS_CBOR,
    RESULTS_JSON,
    SENML_CBOR,
    SENML_JSON,
    bare,
    choose,
    dump_cbor,
    dump_json,
)
from m2mapp.formats.senml import Record, build, name_of
from m2mapp.groups.figures import OWN_KEYS, Aggregate, Number, number_in, read_aggregate, records_in
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.model.errors import Malformed, NotAcceptable
from m2mapp.model.messages import Method, Request, Response, Status

_DOCUMENTS = (RESULTS_JSON, RESULTS_CBOR, JSON, CBOR, NDJSON)
_DOCUMENTS_OVER_COAP = (RESULTS_CBOR, RESULTS_JSON, CBOR, JSON)
"""CBOR first, since each block of a joined answer costs a round trip; NDJSON has no Content-Format."""
_SENML = (SENML_JSON, SENML_CBOR)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants of the answers: media types that will do, the one to begin with, and the figure or truth of all, if any."""

    method: Method
    accept: tuple[str, ...]
    offered: tuple[str, ...]
    media_type: str
    aggregate: Aggregate | None = None

    @property
    def lines(self) -> bool:
        """Whether each answer is wanted by itself."""
        return self.media_type == NDJSON

    def document(self, results: GroupResults) -> dict[str, object]:
        """The joined document, with the figure."""
        return {**results.document(), **self._figure(results)}

    def summary(self, results: GroupResults) -> dict[str, object]:
        """What is told when the members' own were told before: the joined document without them, and who is `unknown`."""
        unknown = {"unknown": list(results.unknown)} if results.unknown else {}
        return {**results.summary(), **unknown, **self._figure(results)}

    def respond(self, results: GroupResults, began_ms: int) -> Response:
        """The response. `began_ms`: the wall clock's time at the beginning. Raises `NotAcceptable` where no pack of SenML can be made."""
        media_type = self.media_type
        if media_type in _SENML:
            payload, why = _senml(results, media_type, began_ms)
            if payload is not None:
                return self._response(payload, media_type)
            offered = tuple(kind for kind in self.offered if kind not in _SENML)
            try:
                media_type = choose(self.accept, offered)
            except NotAcceptable as fault:
                raise NotAcceptable(offered, f"SenML is of numbers alone: {why}") from fault
        if media_type == NDJSON:
            lines = [line(uri, result) for uri, result in results.members.items()]
            return self._response(b"".join([*lines, dump_json(self.summary(results)), b"\n"]), media_type)
        document = self.document(results)
        return self._response(dump_cbor(document) if bare(media_type).endswith("cbor") else dump_json(document), media_type)

    def _figure(self, results: GroupResults) -> dict[str, object]:
        return {"aggregate": self.aggregate.of(results.members, results.silent)} if self.aggregate is not None else {}

    def _response(self, payload: bytes, media_type: str) -> Response:
        status = Status.CONTENT if self.method is Method.GET else Status.CHANGED
        return Response(status, payload, media_type, max_age_s=0)


def read_wanted(request: Request) -> Wanted:
    """What a group request wants. Raises `NotAcceptable`, and `Malformed` for an aggregate that there is not."""
    aggregate = read_aggregate(request)
    offered: tuple[str, ...] = _DOCUMENTS if request.source is None else _DOCUMENTS_OVER_COAP
    if aggregate is None and request.method is Method.GET:
        offered += _SENML  # A figure of all has no place in a pack.
    return Wanted(request.method, request.accept, offered, choose(request.accept, offered), aggregate)


def for_members(query: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The query without what is meant for the group server."""
    return tuple(pair for pair in query if pair[0] not in OWN_KEYS)


def line(uri: str, result: MemberResult) -> bytes:
    """One answer as a line."""
    return dump_json({"member": uri, **result.entry()}) + b"\n"


def _senml(results: GroupResults, media_type: str, began_ms: int) -> tuple[bytes | None, str]:
    """The pack of all members' numbers; or why there is none.

    A record has its member's URI as its name, as far as a name can hold it, and the time at which the answer came; a member that answered
    several records itself, or one with a time, keeps its own times, and its names behind the URI.
    """
    without = list(results.silent)
    records: list[Record] = []
    for uri, result in results.members.items():
        own, at_s = records_in(result), (began_ms + result.ms) / 1000
        number: Number | None = None if own else number_in(result)
        if not own and number is None:
            without.append(uri)
        elif number is not None:
            records.append(Record(name_of(uri), number, time_s=round(at_s, 3)))
        for record in own:
            name = name_of(uri) if len(own) == 1 else f"{name_of(uri)}/{record.name}"
            at = record.at_ms(round(at_s * 1000)) / 1000
            records.append(Record(name, record.value, record.unit, at, record.sum, record.update_s))
    if without:
        more = f" and {len(without) - _NAMED} others" if len(without) > _NAMED else ""
        return None, f"{', '.join(without[:_NAMED])}{more} gave none"
    try:
        return build(records, media_type), ""
    except Malformed as fault:
        return None, fault.detail
