"""What a browser sends: the fields of a form, cookies, where a form came from. Strict, bounded, pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from m2mapp.http.headers import Fields
from m2mapp.model.errors import Forbidden, Malformed, UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 2000
_COOKIE = re.compile(rb"(?:^|;)[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=\"?([!#-+\--:<-\[\]-~]*)\"?[ \t]*(?=;|$)")
_MAX_COOKIES_BYTES = 4096


def parse_pairs(raw: bytes, field: str) -> tuple[tuple[str, str], ...]:
    """The fields of a form or of a page's query, `+` for a space (WHATWG URL, 5.1). Raises `Malformed`, naming `field`."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, encoding="utf-8", errors="strict")
    except ValueError as error:
        raise Malformed(field, raw[:64].decode("latin-1"), f"at most {MOST_FIELDS} fields as a browser sends them") from error
    return tuple((name, value.replace("\r\n", "\n")) for name, value in pairs)


def form_of(fields: Fields, body: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of a form that was sent. Raises `UnsupportedMediaType` or `Malformed`."""
    given = fields.get(b"Content-Type", b"").decode("latin-1")
    if given.partition(";")[0].strip().lower() != FORM:
        raise UnsupportedMediaType(given or None, (FORM,))
    return parse_pairs(body, "form")


def cookie(fields: Fields, name: str) -> str | None:
    """The value of a cookie (RFC 6265), or None."""
    wanted = name.encode()
    found = _COOKIE.findall(fields.get(b"Cookie", b"")[:_MAX_COOKIES_BYTES])
    return next((value.decode() for key, value in found if key == wanted), None)


def check_origin(fields: Fields) -> None:
    """Nothing, where a form was sent by a page of this very node, or by a program that does not say. Raises `Forbidden`.

    Another port of the same host is another origin, to which the cookie's SameSite does not look (Fetch, 3.2; Fetch Metadata).
    """
    site = fields.get(b"Sec-Fetch-Site", b"same-origin")
    origin = fields.get(b"Origin")
    if site not in (b"same-origin", b"none"):
        raise Forbidden("this form was sent by a page of another site")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != fields.get(b"Host", b"").decode("latin-1").lower():
        raise Forbidden("this form was sent by a page of another origin")
