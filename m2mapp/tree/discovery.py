"""`/.well-known/core`: what this node has, in link format, filtered by the query (RFC 6690).

Follows the tree: resources with link attributes are indexed by them, so that a filter costs what it finds and not what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile
from urllib.parse import unquote

from sortedcontainers import SortedList

from m2mapp.formats.documents import LINK_FORMAT, bare, choose
from m2mapp.formats.link_format import LIST_ATTRIBUTES, Link, format_links, matches, target_of
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Request, Response, Status
from m2mapp.tree.etags import LINKS_TAG, etag
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import CONTENT, Change, Resource

MAX_LINKS = 500
"""The most links of one answer; `page` and `count` (RFC 9176, 6.2) give the rest."""
MAX_EXAMINED = 10_000
"""So many links are held against filters one by one for one answer, which takes a tenth of a second at most."""
_NUMBERS = {"text/plain": 0, LINK_FORMAT: 40, "application/octet-stream": 42, "application/json": 50, "application/cbor": 60}
_PART = 100
"""So many children are fetched at a time."""
_CONTENT_FORMAT = "ct"
"""This is not indexed: nearly every resource has it, from its media type."""
_Pair = tuple[str, str]


class Discovery:
    """The links of one tree. `fixed` are links to what the roles of the node offer, such as `</rd>;rt="core.rd"`."""

    def __init__(self, tree: Tree, fixed: Iterable[Link]) -> None:
        self._tree = tree
        self._fixed = tuple(fixed)
        words: dict[str, list[tuple[str, Path]]] = {}
        for resource in filter(_with_link, tree.walk()):
            for name, word in _words(resource):
                words.setdefault(name, []).append((word, resource.path))
        # By attribute: the words of its values and whose they are, in order.
        self._by_attribute: dict[str, SortedList] = {name: SortedList(found) for name, found in words.items()}
        self._version = tree.latest(())
        tree.watch((), self._on_change, subtree=True)

    def respond(self, request: Request) -> Response:
        """The links that pass the request's query. Raises `NotAcceptable`, `Malformed` or `TooLarge`."""
        choose(request.accept, (LINK_FORMAT,))
        query = [(name, value) for name, value in request.query if name not in ("page", "count")]
        page, count = _whole_number(request, "page", 0), min(_whole_number(request, "count", MAX_LINKS), MAX_LINKS)
        links = islice(self._links(query, page * count), count)
        return Response(Status.CONTENT, format_links(links).encode(), LINK_FORMAT, etag(LINKS_TAG, self._version))

    def _links(self, query: list[_Pair], skip: int) -> Iterator[Link]:
        """The links that pass the query, without the first so many."""
        fixed = [link for link in self._fixed if matches(link, query)]
        yield from fixed[skip:]
        skip = max(0, skip - len(fixed))
        indexed = [(name, value) for name, value in query if name not in ("href", _CONTENT_FORMAT)]
        if not query:
            yield from map(_link, islice(self._all(), skip, None))
        elif len(query) == 1 and indexed:  # What the index gives needs no further look.
            yield from map(_link, islice(self._having(*indexed[0]), skip, None))
        else:
            yield from islice(_examined(self._candidates(query, indexed), query), skip, None)

    def _candidates(self, query: list[_Pair], indexed: list[_Pair]) -> Iterator[Resource]:
        """All that may pass the query, and as few others as can be had cheaply."""
        if indexed:
            return self._having(*min(indexed, key=self._how_many))
        targets = [value for name, value in query if name == "href"]
        return self._beginning(targets[0]) if targets else self._all()

    def _all(self) -> Iterator[Resource]:
        return (resource for resource in self._tree.walk() if resource.type == CONTENT)

    def _having(self, name: str, wanted: str) -> Iterator[Resource]:
        """The resources that have this word, or with a `*` at its end one that begins so, in an attribute; each once."""
        entries = self._by_attribute.get(name, SortedList())
        begin = wanted.removesuffix("*")
        passes: Callable[[str], bool] = begin.__eq__ if begin == wanted else lambda word: word.startswith(begin)
        seen: set[Path] = set()
        for _, path in takewhile(lambda entry: passes(entry[0]), entries.irange((begin,))):
            if path not in seen and (resource := self._tree.find(path)) is not None:
                seen.add(path)
                yield resource

    def _how_many(self, pair: _Pair) -> int:
        name, wanted = pair
        entries = self._by_attribute.get(name)
        if entries is None:
            return 0
        begin = wanted.removesuffix("*")
        end = begin + ("\0" if begin == wanted else "\U0010ffff")
        return int(entries.bisect_left((end,)) - entries.bisect_left((begin,)))

    def _beginning(self, wanted: str) -> Iterator[Resource]:
        """The resources whose path, as text, is this or with a `*` at its end begins so."""
        segments = tuple(unquote(wanted.removesuffix("*")).split("/")[1:])
        if not wanted.endswith("*"):
            found = self._tree.find(segments)
            return iter((found,) if found else ())
        if not segments:
            return self._all()
        return (found for child in self._children_from(segments[:-1], segments[-1]) for found in self._tree.walk(child.path))

    def _children_from(self, path: Path, begin: str) -> Iterator[Resource]:
        """The children whose names begin so, by name, fetched in parts."""
        exact = self._tree.find((*path, begin)) if begin else None
        part = [exact] if exact else []
        after = begin
        while True:
            for child in part:
                if not child.path[-1].startswith(begin):
                    return
                yield child
            part = self._tree.children(path, after, _PART)
            if not part:
                return
            after = part[-1].path[-1]

    def _on_change(self, change: Change) -> None:
        before, after = _with_link(change.before), _with_link(change.after)
        if before is after is None or (before and after and _same_link(before, after)):
            return
        if before is not None:
            for name, word in _words(before):
                self._leave(name, (word, before.path))
        if after is not None:
            for name, word in _words(after):
                self._by_attribute.setdefault(name, SortedList()).add((word, after.path))
        self._version = change.number

    def _leave(self, name: str, entry: tuple[str, Path]) -> None:
        entries = self._by_attribute[name]
        entries.discard(entry)
        if not entries:
            del self._by_attribute[name]


def _examined(found: Iterable[Resource], query: list[_Pair]) -> Iterator[Link]:
    by_target = any(name == "href" for name, _ in query)
    for examined, resource in enumerate(found):
        if examined == MAX_EXAMINED:
            raise TooLarge("query", MAX_EXAMINED, "links to look through: filter by one that fewer have")
        if resource.type != CONTENT:
            continue
        attributes = _attributes(resource)
        # Encoding the target is half of the work, and needed for few.
        if matches(Link(target_of(resource.path) if by_target else "", attributes), query):
            yield Link(target_of(resource.path), attributes)


def _with_link(resource: Resource | None) -> Resource | None:
    return resource if resource is not None and resource.type == CONTENT else None


def _same_link(one: Resource, other: Resource) -> bool:
    same = one.attributes is other.attributes or one.attributes == other.attributes
    return same and one.media_type == other.media_type


def _words(resource: Resource) -> set[_Pair]:
    """What a content resource is found by: the words of each of its link attributes, as `matches` tells them."""
    pairs = [(name, _attribute_text(value)) for name, value in _given(resource) if value is not False and name != _CONTENT_FORMAT]
    return {(name, word) for name, text in pairs for word in (text.split() if name in LIST_ATTRIBUTES else (text,))}


def _link(resource: Resource) -> Link:
    return Link(target_of(resource.path), _attributes(resource))


def _attributes(resource: Resource) -> tuple[_Pair, ...]:
    attributes = [(name, _attribute_text(value)) for name, value in _given(resource) if value is not False]
    number = _NUMBERS.get(bare(resource.media_type))
    if number is not None and all(name != _CONTENT_FORMAT for name, _ in attributes):
        attributes.append((_CONTENT_FORMAT, str(number)))
    return tuple(attributes)


def _given(resource: Resource) -> Iterable[tuple[str, object]]:
    given = resource.attributes.get("attributes")
    return given.items() if isinstance(given, dict) else ()


def _attribute_text(value: object) -> str:
    return "" if value is True else str(value)


def _whole_number(request: Request, name: str, default: int) -> int:
    text = request.query_value(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):  # noqa: PLR2004 - six digits are plenty
        raise Malformed(name, text, "a whole number of at most six digits")
    return int(text)
