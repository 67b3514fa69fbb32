"""CoRE link format (RFC 6690): links to text and back, and the query filter of discovery (section 4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from m2mapp.model.errors import Malformed, TooLarge

MAX_LINKS = 1000
MAX_ATTRIBUTES = 64
"""The most attributes of one link."""
LIST_ATTRIBUTES = frozenset({"rt", "if", "rel", "ct"})
"""Attributes whose value is a list of words, each of which a filter may name (RFC 6690, 4.1)."""
_LINK = re.compile(r"\s*<([^<>\"\s]{0,1024})>")
_ATTRIBUTE = re.compile(r"\s*;\s*([!#$&+\-.^_`|~0-9A-Za-z*]{1,64})(?:=(?:\"((?:[^\"\\]|\\.)*)\"|([^\"\s,;<>\\]*)))?", re.DOTALL)
_SEPARATOR = re.compile(r"\s*(,|\Z)")
_NAME = re.compile(r"(?=.{1,64}\Z)[!#$&+\-.^_`|~0-9A-Za-z]+\*?")


_SHOWN = 100
"""How much of the text an error gets to see."""


@dataclass(frozen=True, slots=True)
class Link:
    """One link: the target as it is written, and its attributes; one without a value has the empty string."""

    target: str
    attributes: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of an attribute, or None."""
        return next((value for key, value in self.attributes if key == name), None)

    def words(self, name: str) -> list[str]:
        """The words of an attribute that holds a list; empty where there is none."""
        return (self.get(name) or "").split()


def parse_links(text: str, field: str = "links") -> list[Link]:
    """The links that the text says. Raises `Malformed` or `TooLarge`, naming `field`."""
    links: list[Link] = []
    at = 0
    more = bool(text.strip())
    while more:
        if len(links) == MAX_LINKS:
            raise TooLarge(field, MAX_LINKS, "links")
        found = _LINK.match(text, at)
        if not found:
            raise Malformed(field, text[at : at + _SHOWN], 'a link such as </sensors/temp>;rt="temperature" (RFC 6690)')
        attributes, at = _parse_attributes(text, found.end(), field)
        links.append(Link(found.group(1), attributes))
        separator = _SEPARATOR.match(text, at)
        if not separator:
            raise Malformed(field, text[at : at + _SHOWN], "an attribute such as ;rt=\"temperature\", or a ',' between links (RFC 6690)")
        more = separator.group(1) == ","
        at = separator.end()
    return links


def _parse_attributes(text: str, at: int, field: str) -> tuple[tuple[tuple[str, str], ...], int]:
    attributes: list[tuple[str, str]] = []
    while pair := _ATTRIBUTE.match(text, at):
        if len(attributes) == MAX_ATTRIBUTES:
            raise TooLarge(field, MAX_ATTRIBUTES, "attributes of one link")
        name, quoted, plain = pair.groups()
        attributes.append((name.lower(), re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if quoted is not None else plain or ""))
        at = pair.end()
    return tuple(attributes), at


def format_links(links: Iterable[Link]) -> str:
    """The links as text."""
    return ",".join(f"<{link.target}>" + "".join(_attribute(name, value) for name, value in link.attributes) for link in links)


def target_of(path: tuple[str, ...]) -> str:
    """A path as a link's target: percent-encoded as RFC 3986 asks."""
    return "/" + "/".join(quote(segment, safe="!$&'()*+,;=:@-._~") for segment in path)


def is_attribute_name(name: str) -> bool:
    """Whether a link can have an attribute of this name (RFC 6690, section 2: `parmname`, of at most 64 characters)."""
    return _NAME.fullmatch(name) is not None


def matches(link: Link, query: Iterable[tuple[str, str]]) -> bool:
    """Whether a link passes the filter: each pair must hold; a value that ends in `*` is a beginning (RFC 6690, 4.1).

    `href` is compared with the target as it is written and with its percent-encoding undone, since edges undo that of a query.
    """
    return all(_holds(link, name, value) for name, value in query)


def _holds(link: Link, name: str, wanted: str) -> bool:
    if name == "href":
        return holds(name, (link.target,), wanted)
    return holds(name, [value for key, value in link.attributes if key == name], wanted)


def holds(name: str, values: Iterable[str], wanted: str) -> bool:
    """Whether one of an attribute's values is what a filter wants (RFC 6690, 4.1); of `href` the value is the target."""
    if name == "href":
        values = [form for value in values for form in (value, unquote(value))]
    elif name in LIST_ATTRIBUTES:
        values = [word for value in values for word in value.split()]
    if wanted.endswith("*"):
        return any(value.startswith(wanted[:-1]) for value in values)
    return wanted in values


def _attribute(name: str, value: str) -> str:
    if value == "":
        return f";{name}"
    if value.isascii() and value.isdecimal():
        return f";{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f';{name}="{escaped}"'
