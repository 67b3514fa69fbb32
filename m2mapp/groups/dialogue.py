"""In what words a device is told to join and to leave: the requests of one attempt, each made from the answer to the one before. Pure.

A dialogue is a generator: it yields a request, is sent the answer (None: there was none), and returns the answer that decides. Three ways
of speaking are known:

- `mcGroup`s by our names (spec section 5): PUT and DELETE of `/mcGroups/<name>`;
- `mcGroup`s by names that the device chooses, where it takes no PUT: POST to `/mcGroups`. Which one is ours is seen in what the device
  shows, by address and fan-out URI: there is no place that this node would have to remember, or could lose;
- the memberships of RFC 7390, section 2.6, for a device that has `rt="core.gp"` among its links and no `rt="m2m.mcgroups"`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from m2mapp.formats.documents import CBOR, JSON, bare, dump_cbor, dump_json, load_cbor, load_json
from m2mapp.formats.shapes import Wrong, host
from m2mapp.formats.uris import DEFAULT_PORTS, Uri, address_key, parse_uri
from m2mapp.groups.advertisement import is_left
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.tree.registrations import Device
from m2mapp.tree.unit import Document

COAP_GROUP_JSON = "application/coap-group+json"
TIMEOUT_S = 20.0
"""How long one request of a dialogue is waited for."""
_TAKES_NOT = frozenset({"4.05", "405", "5.01", "501"})
_MAYBE_ELSEWHERE = _TAKES_NOT | {"4.04", "404"}
_SHOW_ALL = (("limit", "1000"),)

Dialogue = Generator[Outgoing, Answer | None, Answer | None]


@dataclass(frozen=True, slots=True)
class Place:
    """What a device is in, or is to leave: the name of the `mcGroup`, the multicast address, the port and the fan-out URI."""

    name: str
    address: str
    port: int
    fanout_uri: str


@dataclass(frozen=True, slots=True)
class Said:
    """What comes of a whole dialogue: the answer that decides (None: there was none), and the addresses that the device has left."""

    answer: Answer | None
    left: frozenset[str] = frozenset()


def say(device: Device, wanted: tuple[Place, Document] | None, old: Sequence[Place]) -> Generator[Outgoing, Answer | None, Said]:
    """Tell a device, which has an address, what it is to hold of one set from now on, and at which places it held it before.

    It joins before it leaves, so that it is never in neither. An `mcGroup` of the same name is replaced: there is nothing to leave then.
    """
    answer: Answer | None = None
    if wanted is not None:
        answer = yield from join(device, *wanted)
        if answer is None or not answer.ok or not device.coap_group:
            return Said(answer, frozenset(place.address for place in old) if answer is not None and answer.ok else frozenset())
    left = []
    for place in old:
        gone = yield from leave(device, place)
        if is_left(gone):
            left.append(place.address)
        answer = gone if wanted is None else answer
    return Said(answer, frozenset(left))


def join(device: Device, place: Place, document: Document) -> Dialogue:
    """Tell a device, which has an address, to hold this `mcGroup`."""
    if device.coap_group:
        return (yield from _join_by_rfc7390(device, place))
    answer = yield _write(device, Method.PUT, document, place.name)
    return answer if answer is None or answer.code not in _TAKES_NOT else (yield from _post(device, document, answer))


def leave(device: Device, place: Place) -> Dialogue:
    """Tell a device to hold it no longer."""
    if device.coap_group:
        return (yield from _leave_by_rfc7390(device, place))
    answer = yield leave_named(device, place.name)
    if answer is None or answer.code not in _MAYBE_ELSEWHERE:
        return answer
    shown = shown_groups((yield show(device)))
    names = [name for name, kept in shown.items() if _is_same(kept, place.address, place.fanout_uri)] if shown is not None else []
    for name in names:
        answer = yield leave_named(device, name)
    return answer


def leave_named(device: Device, name: str) -> Outgoing:
    """The request to give up the `mcGroup` of that name."""
    return Outgoing(Method.DELETE, _uri(device, name), timeout_s=TIMEOUT_S, patient=True)


def leave_membership(device: Device, index: str) -> Outgoing:
    """The request to give up the membership of that index (RFC 7390, section 2.6)."""
    return Outgoing(Method.DELETE, _coap_group_uri(device, index), timeout_s=TIMEOUT_S, patient=True)


def show(device: Device) -> Outgoing:
    """Ask a device what it holds."""
    if device.coap_group:
        return Outgoing(Method.GET, _coap_group_uri(device), accept=COAP_GROUP_JSON, timeout_s=TIMEOUT_S, patient=True)
    base = parse_uri(_uri(device))
    uri = Uri(base.scheme, base.host, base.port, base.path, _SHOW_ALL)
    return Outgoing(Method.GET, uri.text(), accept=_media_type(uri), timeout_s=TIMEOUT_S, patient=True)


def shown_groups(answer: Answer | None) -> dict[str, Document] | None:
    """The `mcGroup`s that a device shows, by name; None where it does not say, or says it in other words."""
    found = _document(answer)
    children = found.get("children") if found is not None else None
    if not isinstance(children, list):
        return None
    return {
        str(child["name"]): child
        for child in children
        if isinstance(child, Mapping) and isinstance(child.get("mcAddress"), str) and "name" in child
    }


def shown_memberships(answer: Answer | None) -> dict[str, Document] | None:
    """The memberships that a device of RFC 7390 shows, by index; None where it does not say."""
    found = _document(answer)
    if found is None or answer is None or bare(answer.content_type) != COAP_GROUP_JSON:
        return None
    return {index: kept for index, kept in found.items() if isinstance(kept, Mapping)}


def is_as_told(kept: Document, document: Document) -> bool:
    """Whether the `mcGroup` that a device shows is the one that it shall hold."""
    return all(kept.get(key) == value for key, value in document.items())


def address_of(kept: Document) -> str | None:
    """The group address of a membership, `[ff15::1]:5683` or `224.0.1.187`; None where it has none that can be read."""
    parsed = _authority(kept.get("a"))
    return parsed[0] if parsed is not None else None


def entries_of(kept: Mapping[str, Document], place: Place) -> list[str]:
    """The indexes of the memberships that are in this group."""
    return [index for index, entry in kept.items() if _authority(entry.get("a")) == (place.address, place.port)]


def _is_same(kept: Document, address: str, fanout_uri: str) -> bool:
    return address_key(str(kept["mcAddress"])) == address and kept.get("fanoutURI") == fanout_uri


# `mcGroup`s by the device's names.


def _post(device: Device, document: Document, refused: Answer) -> Dialogue:
    shown = shown_groups((yield show(device)))
    if shown is None:
        return refused  # It could never be told to leave.
    ours = {name: kept for name, kept in shown.items() if _is_same(kept, str(document["mcAddress"]), str(document["fanoutURI"]))}
    if any(is_as_told(kept, document) for kept in ours.values()):
        return Answer("2.03")
    for name in ours:
        yield leave_named(device, name)
    return (yield _write(device, Method.POST, document))


def _write(device: Device, method: Method, document: Document, *name: str) -> Outgoing:
    uri = parse_uri(_uri(device, *name))
    kind = _media_type(uri)
    payload = dump_cbor(document) if kind == CBOR else dump_json(document)
    return Outgoing(method, uri.text(), payload, kind, timeout_s=TIMEOUT_S, patient=True)


def _media_type(uri: Uri) -> str:
    return CBOR if uri.scheme == "coap" else JSON


def _uri(device: Device, *name: str) -> str:
    """Where the device takes advertisements: a path on it, or a URI of its own (by HTTP, as a rule).

    It is told at the address that it registered, whatever name it gives itself: what is sent by name to another node may bear a token.
    """
    scheme, port, path = device.scheme, device.port, _segments(device.mc_groups)
    if not device.mc_groups.startswith("/"):
        own = parse_uri(device.mc_groups)
        scheme, port, path = own.scheme, own.port, own.path
    return Uri(scheme, device.addresses[0], port, (*path, *name)).text()


def _segments(path: str) -> tuple[str, ...]:
    return tuple(segment for segment in path.split("/") if segment)


# Memberships (RFC 7390, section 2.6).


def _join_by_rfc7390(device: Device, place: Place) -> Dialogue:
    answer = yield show(device)
    kept = shown_memberships(answer)
    if kept is None:
        return answer if answer is None or not answer.ok else Answer("5.01", b"it shows no memberships")
    if entries_of(kept, place):
        return Answer("2.03")
    entry = _membership(place)
    answer = yield _memberships(device, Method.POST, entry)
    if answer is None or answer.code not in _TAKES_NOT:
        return answer
    free = next(str(number) for number in range(1, len(kept) + 2) if str(number) not in kept)
    return (yield _memberships(device, Method.PUT, {**kept, free: entry}))


def _leave_by_rfc7390(device: Device, place: Place) -> Dialogue:
    answer = yield show(device)
    kept = shown_memberships(answer)
    if kept is None:
        return answer if answer is None or not answer.ok else None
    answer = Answer("2.02")
    ours = entries_of(kept, place)
    for index in ours:
        answer = yield leave_membership(device, index)
        if answer is not None and answer.code in _TAKES_NOT:
            return (yield _memberships(device, Method.PUT, {index: entry for index, entry in kept.items() if index not in ours}))
    return answer


def _membership(place: Place) -> dict[str, str]:
    address = f"[{place.address}]" if ":" in place.address else place.address
    entry = {"a": address if place.port == DEFAULT_PORTS["coap"] else f"{address}:{place.port}"}
    try:
        return {"n": host(place.name), **entry}
    except Wrong:
        return entry  # A group's name that can be no host name is left out: one of the two has to be there.


def _authority(text: object) -> tuple[str, int] | None:
    try:
        uri = parse_uri(f"coap://{text}")
    except Fault:
        return None
    return uri.host, uri.port


def _memberships(device: Device, method: Method, document: Mapping[str, object]) -> Outgoing:
    return Outgoing(method, _coap_group_uri(device), dump_json(document), COAP_GROUP_JSON, timeout_s=TIMEOUT_S, patient=True)


def _coap_group_uri(device: Device, *index: str) -> str:
    return Uri(device.scheme, device.addresses[0], device.port, (*_segments(device.coap_group), *index)).text()


def _document(answer: Answer | None) -> Document | None:
    if answer is None or not answer.ok:
        return None
    try:
        found = load_cbor(answer.payload) if bare(answer.content_type) == CBOR else load_json(answer.payload)
    except Fault:
        return None
    return found if isinstance(found, Mapping) else None
