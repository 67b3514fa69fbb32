"""The files that the pages are made of: styles, scripts, pictures, all served by this node itself.

Each is read once, at the start, and named with a tag of its content, so that a browser keeps it for good and takes a new one at once.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from m2mapp.admin.replies import not_modified, reply
from m2mapp.http.headers import Fields
from m2mapp.http.site import SiteAnswer

STATIC = "/admin/static/"
_TYPES = {"css": "text/css;charset=utf-8", "js": "text/javascript;charset=utf-8", "svg": "image/svg+xml", "txt": "text/plain;charset=utf-8"}
_TAG_CHARACTERS = 16
_FOR_GOOD = b"Cache-Control: public, max-age=31536000, immutable\r\n"
_ASK_AGAIN = b"Cache-Control: no-cache\r\n"


@dataclass(frozen=True, slots=True)
class File:
    """One file: its media type, its content, that compressed, and the tag of the content."""

    media_type: str
    body: bytes
    zipped: bytes
    tag: str


class Files:
    """All static files of the site."""

    def __init__(self) -> None:
        self._files = _all_files()

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._files)

    def uri(self, name: str) -> str:
        """Where a file is, with its tag. Raises `KeyError` for one that there is not."""
        return f"{STATIC}{name}?v={self._files[name].tag}"

    def answer(self, name: str, version: str | None, fields: Fields, *, head_only: bool) -> SiteAnswer | None:
        """The answer to a GET of a file; None where there is no such file."""
        file = self._files.get(name)
        if file is None:
            return None
        own = [
            _FOR_GOOD if version == file.tag else _ASK_AGAIN,
            b'ETag: "%s"\r\n' % file.tag.encode(),
            b"Vary: Accept-Encoding\r\n",
        ]
        if file.tag.encode() in fields.get(b"If-None-Match", b""):
            return not_modified(own)
        if b"gzip" in fields.get(b"Accept-Encoding", b""):
            return reply(200, file.media_type, file.zipped, head_only=head_only, fields=[*own, b"Content-Encoding: gzip\r\n"])
        return reply(200, file.media_type, file.body, head_only=head_only, fields=own)


@cache
def _all_files() -> dict[str, File]:
    """The files by their names, read once for all the nodes of one process."""
    return dict(_read(resources.files("m2mapp.admin") / "static"))


def _read(folder: Traversable, before: str = "") -> Iterator[tuple[str, File]]:
    for item in folder.iterdir():
        name = before + item.name
        if item.is_dir():
            yield from _read(item, name + "/")
            continue
        media_type = _TYPES.get(item.name.rpartition(".")[2])
        if media_type is not None:
            body = item.read_bytes()
            tag = hashlib.sha256(body).hexdigest()[:_TAG_CHARACTERS]
            yield name, File(media_type, body, gzip.compress(body, 9, mtime=0), tag)
