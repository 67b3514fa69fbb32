"""What a rule reads: one content, taken apart when a field of it is asked for, and once only.

Responsible for which value `value`, `text`, `json`, `cbor` and `senml` are of a content, by its media type, and for saying why there is
none. Not responsible for conditions on these values: `conditions`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from m2mapp.formats.documents import GREATEST_INTEGER, LEAST_INTEGER, OCTETS, bare, is_cbor, is_json, is_text, load_cbor, load_json
from m2mapp.formats.senml import is_senml, parse
from m2mapp.model.errors import Malformed, shown

MAX_READ_BYTES = 65_536
"""A larger content is read by no rule: what taking it apart costs stays under a few milliseconds."""

_NUMBER = re.compile(r"-?[0-9]{1,308}(?:\.[0-9]{1,308})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_SPACE = " \t\r\n"
_CONTENT = "content"
_LONGEST_WHOLE = 20
"""Whole numbers of 64 bits have no more characters."""


@dataclass(frozen=True, slots=True)
class Unread:
    """There is no such value, and why. `absent`: the content could be read, and it has no such field."""

    why: str
    absent: bool = False


class Sample:
    """One content with its media type. What it says is found when it is asked for, and kept.

    The media type decides how a content is read. Where it says neither JSON nor CBOR nor SenML (none, text, octets), the field's first
    word does.
    """

    __slots__ = ("_read", "content", "media_type")

    def __init__(self, content: bytes, media_type: str | None) -> None:
        self.content, self.media_type = content, media_type
        self._read: dict[str, object] = {}

    def root(self, word: str) -> object:
        """What `value`, `text`, `json`, `cbor` or `senml` is: a document's value (of SenML: by name), bytes, or `Unread`."""
        try:
            return self._read[word]
        except KeyError:
            found = self._read[word] = self._take_apart(word)
            return found

    @property
    def number(self) -> int | float | None:
        """The value, where that is a number."""
        value = self.root("value")
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def _take_apart(self, word: str) -> object:
        if len(self.content) > MAX_READ_BYTES:
            return Unread(f"the content has {len(self.content)} bytes, and rules read at most {MAX_READ_BYTES}")
        try:
            return _READERS[word](self)
        except Malformed as fault:
            what = "the content" if fault.field == _CONTENT else f"the {fault.field}"
            return Unread(f"{what} is not {fault.expected}")
        except UnicodeDecodeError:
            return Unread("the content is not text in UTF-8")

    def _value(self) -> object:
        media_type = self.media_type
        if is_senml(media_type):
            records = self._senml()
            return next(iter(records.values())) if isinstance(records, dict) and len(records) == 1 else records
        if is_json(media_type):
            return load_json(self.content, _CONTENT)
        if is_cbor(media_type):
            return load_cbor(self.content, _CONTENT)
        if media_type is not None and not is_text(media_type):
            return self.content
        try:
            text = self.content.decode().strip(_SPACE)
        except UnicodeDecodeError:
            return self.content
        return number_in(text) if _NUMBER.fullmatch(text) else text

    def _text(self) -> object:
        return Unread("the content is CBOR, which is no text") if is_cbor(self.media_type) else self.content.decode()

    def _json(self) -> object:
        return self._document(load_json, self.media_type is None or is_text(self.media_type))

    def _cbor(self) -> object:
        return self._document(load_cbor, bare(self.media_type) in ("", OCTETS))

    def _document(self, load: Callable[[bytes, str], object], otherwise: bool) -> object:
        if is_json(self.media_type):
            return load_json(self.content, _CONTENT)
        if is_cbor(self.media_type):
            return load_cbor(self.content, _CONTENT)
        if otherwise:
            return load(self.content, _CONTENT)
        return Unread(f"the content is {shown(self.media_type or '')}, neither JSON nor CBOR")

    def _senml(self) -> object:
        """The values by name; of several of one name the last, since records are in the order of time (RFC 8428, section 4.6)."""
        if not is_senml(self.media_type):
            return Unread(f"the content is {shown(self.media_type or 'of no media type')}, not SenML")
        records = parse(self.content, self.media_type, _CONTENT)
        return {record.name: record.value for record in records if record.value is not None}


_READERS: Mapping[str, Callable[[Sample], object]] = {
    "value": Sample._value,
    "text": Sample._text,
    "json": Sample._json,
    "cbor": Sample._cbor,
    "senml": Sample._senml,
}


def number_in(text: str) -> int | float | str:
    """The number that a text is, whole ones exact; the text itself where no 64-bit number can hold it."""
    if len(text) <= _LONGEST_WHOLE and text.lstrip("-").isdecimal() and LEAST_INTEGER <= (whole := int(text)) <= GREATEST_INTEGER:
        return whole
    number = float(text)
    return number if math.isfinite(number) else text
