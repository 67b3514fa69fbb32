"""Requests and answers as the whole program speaks them, whichever protocol they came in by or go out by.

The edges (`http`, `coap`) make a `Request` and render a `Response`; `clients` turns an `Outgoing` into an `Answer`.

`Request`, `Response` and `Answer` are named tuples and no frozen dataclasses, because they are made for each request, and answers by the
thousand: 0.5 us each in place of 1.5 to 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IStream
from m2mapp.model.principal import NOBODY, Principal


class Method(Enum):
    """The methods of the resource tree (spec section 2)."""

    GET = "GET"
    PUT = "PUT"
    POST = "POST"
    PATCH = "PATCH"
    DELETE = "DELETE"

    __hash__ = object.__hash__  # each is one object; the hash of an Enum is written in Python, and is taken several times a request


WRITES = frozenset({Method.PUT, Method.POST, Method.PATCH, Method.DELETE})


class Status(Enum):
    """How a request went well, named as CoAP names it (RFC 7252, section 12.1.2). What goes badly is a `Fault`."""

    CREATED = "Created"
    DELETED = "Deleted"
    VALID = "Valid"
    CHANGED = "Changed"
    CONTENT = "Content"


ANY_ETAG = b"*"
"""Stands for `*` in If-Match and If-None-Match (RFC 9110) and for the empty If-Match option (RFC 7252, 5.10.8.1)."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """If-Match and If-None-Match: the ETags named, or `ANY_ETAG`; empty means that there is no condition."""

    if_match: tuple[bytes, ...] = ()
    if_none_match: tuple[bytes, ...] = ()


UNCONDITIONAL = Conditions()


@dataclass(frozen=True, slots=True)
class Multicast:
    """What a datagram's destination was, where that is a multicast address: the group and the interface it came in by."""

    group: str
    interface: int


class Request(NamedTuple):
    """One request to this node.

    `query` holds the decoded pairs in their order, a bare key with an empty value. `accept` holds media types, the preferred
    first; empty means any. `source` is the address (with its zone) and the port that a CoAP request came from. `deadline` is in
    seconds of the node's monotonic clock. `cause` lists the operations passed through (spec section 6). `trace` is in every log
    line, event and record that comes of this request.

    `requester`: eight bytes by which who sent it is known, whatever address it came from (`seen.requester_tag`).
    `takes_stream`: whoever asks can be answered with a `Response.stream`. `later_block`: a block of an answer is asked for that is kept no
    longer (RFC 7959); what cannot be made twice alike refuses it.

    `peer`: whom `IAskBack` can ask back, where a request came by CoAP; opaque to all but that.
    """

    method: Method
    path: Path
    query: tuple[tuple[str, str], ...] = ()
    payload: bytes = b""
    content_type: str | None = None
    accept: tuple[str, ...] = ()
    conditions: Conditions = UNCONDITIONAL
    principal: Principal = NOBODY
    source: tuple[str, int] | None = None
    trace: str = ""
    deadline: float | None = None
    request_id: bytes | None = None
    cause: tuple[str, ...] = ()
    multicast: Multicast | None = None
    takes_stream: bool = False
    later_block: bool = False
    peer: object = None
    requester: bytes | None = None

    def query_value(self, key: str) -> str | None:
        """The first value of a query key, or None."""
        for name, value in self.query:
            if name == key:
                return value
        return None


class Response(NamedTuple):
    """The answer to a `Request` that went well. `next_query` is the query of the next page, where there is one.

    `leisure_s`: set by the member role on answers to multicast requests: the edge waits a random part of it (RFC 7252, 8.2).
    `stream`: the payload as it comes, in place of `payload`; only for a request that takes one.
    """

    status: Status
    payload: bytes = b""
    content_type: str | None = None
    etag: bytes | None = None
    location: Path | None = None
    max_age_s: int | None = None
    next_query: tuple[tuple[str, str], ...] | None = None
    modified_ms: int | None = None
    leisure_s: float | None = None
    stream: IStream | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request from this node to a URI. `timeout_s` is the time after which the caller no longer waits.

    `principal` is for whom it is sent: where the URI is this node's own, that is whose rights count. `certificate` (DER) is the one that
    the server of a `coaps` URI has to show, byte for byte, in place of one that names the URI's host. `rtt_s`: the round-trip time to
    reckon with where none is known of the peer; `again`: an earlier copy was lost, so that this one is repeated sooner.
    `patient`: other requests to the same peer go first, also while it is not answered. `of_group`: it is of a group operation, and
    repeated at the pace of the round trips seen. `requester`: as in `Request`.
    """

    method: Method
    uri: str
    payload: bytes = b""
    content_type: str | None = None
    accept: str | None = None
    timeout_s: float = 30.0
    trace: str = ""
    request_id: bytes | None = None
    cause: tuple[str, ...] = ()
    principal: Principal = NOBODY
    certificate: bytes | None = None
    rtt_s: float | None = None
    again: bool = False
    patient: bool = False
    of_group: bool = False
    requester: bytes | None = None


@dataclass(frozen=True, slots=True)
class GroupOutgoing:
    """One request from this node to a multicast address: one datagram for each interface (spec section 4).

    `address` is an IPv6 or IPv4 multicast address; `interfaces` are names, empty for the configured ones; `lifetime_s` is how
    long answers are gathered at most, which those asked are told with `tell_deadline`.
    """

    method: Method
    address: str
    path: Path
    port: int = 5683
    query: tuple[tuple[str, str], ...] = ()
    payload: bytes = b""
    content_type: str | None = None
    accept: str | None = None
    interfaces: tuple[str, ...] = ()
    lifetime_s: float = 30.0
    tell_deadline: bool = False
    request_id: bytes | None = None
    cause: tuple[str, ...] = ()
    requester: bytes | None = None


class Answer(NamedTuple):
    """What came back from elsewhere. `code` is the sender's own: "2.05" of CoAP, "200" of HTTP.

    `source` is the address that answered (with its zone, where it has one), `port` its port; `elapsed_s` counts from sending;
    `max_age_s`: for how long the sender says that it is fresh (Max-Age, Cache-Control), None where it says nothing.
    """

    code: str
    payload: bytes = b""
    content_type: str | None = None
    source: str = ""
    port: int = 0
    elapsed_s: float = 0.0
    location: str | None = None
    etag: bytes | None = None
    max_age_s: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the code says that it went well."""
        return self.code.startswith("2")
