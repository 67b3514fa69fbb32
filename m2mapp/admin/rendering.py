"""Templates to HTML: the environment that all templates share, and how values stand in them.

Everything that is put into a template is escaped; an unknown name is an error. Not responsible for what a page shows (`views`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from m2mapp import __version__
from m2mapp.admin.files import Files
from m2mapp.admin.live import topic
from m2mapp.admin.natural import in_order
from m2mapp.admin.pages import Page, Shown
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import rfc3339
from m2mapp.formats.uris import path_uri
from m2mapp.model.identifiers import Path, path_text

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_KILO = 1000


class Renderer:
    """Makes the HTML of pages. `pages` are those of the navigation, in their order."""

    def __init__(self, files: Files, pages: Sequence[Page], node_name: str) -> None:
        self._environment = _environment()
        self._everywhere = {"file": files.uri, "node_name": node_name, "version": __version__}
        self._pages = tuple(pages)
        self._titles = {page.name: page.title for page in pages}

    def render(self, shown: Shown, visit: Visit) -> bytes:
        """The HTML of a page, as it goes out."""
        template = self._environment.get_template(shown.template, globals=self._everywhere)
        title = shown.title or self._titles.get(visit.page, "")
        listed = [page for page in self._pages if page.listed and page.open_to(visit.principal)]
        values: Mapping[str, object] = {"visit": visit, "title": title, "pages": listed, "status": shown.status, **shown.values}
        return template.render(values).encode()


def _environment() -> Environment:
    """The templates with their filters."""
    environment = Environment(
        loader=PackageLoader("m2mapp.admin", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
    )
    environment.filters |= {"topic": topic, "when": when, "moment": moment, "size": size, "duration": duration}
    environment.filters |= {"tree_uri": tree_uri, "path_text": path_text, "in_order": in_order}
    return environment


class _Compiled(BytecodeCache):
    """Templates are compiled once, for all the nodes of one process."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was kept of a template, if it was."""
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it."""
        self._code[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def when(at_ms: float) -> Markup:
    """A moment (wall-clock milliseconds), as `moment`."""
    return moment(rfc3339(int(at_ms)))


def moment(text: str | None, none: str = "\u2013") -> Markup:
    """A moment as documents have it (RFC 3339), or what stands for `none`; a script puts it in the reader's own time."""
    return Markup('<time datetime="{}">{}</time>').format(text, text[:19].replace("T", " ")) if text else escape(none)


def size(count: float) -> str:
    """A number of bytes as people read it."""
    value, unit = float(count), 0
    while value >= _KILO and unit < len(_UNITS) - 1:
        value, unit = value / _KILO, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{count:g} bytes"


def duration(seconds: float) -> str:
    """A time span as people read it, in its two largest units."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length and len(parts) < 2:  # noqa: PLR2004 - said in the docstring
            parts.append(f"{left // length} {name}")
            left %= length
    return " ".join(parts) or "0 s"


def tree_uri(path: Path) -> str:
    """Where the page of a resource is."""
    return "/admin/tree" + path_uri(path).rstrip("/")
