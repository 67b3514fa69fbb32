"""Answers of the site as bytes: header fields, above all those that keep a browser from running or sending what is not ours.

Pure. Not responsible for what a page says (`rendering`) nor for the fields that every answer has (`http.answers.start`).
"""

from __future__ import annotations

from collections.abc import Iterable

from m2mapp.http.answers import one_line
from m2mapp.http.site import SiteAnswer

HTML = "text/html;charset=utf-8"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""No script and no style but our own files, nothing from elsewhere, in nobody's frame (CSP level 3)."""
GUARD = (
    f"Content-Security-Policy: {_POLICY}\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: same-origin\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Permissions-Policy: camera=(), geolocation=(), microphone=()\r\n"
).encode()
NO_STORE = b"Cache-Control: no-store\r\n"


def reply(code: int, media_type: str, body: bytes, *, head_only: bool = False, fields: Iterable[bytes] = (NO_STORE,)) -> SiteAnswer:
    """An answer with a body. `fields` are whole header fields with their line ends."""
    own = b"".join(fields)
    head = b"%s%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (GUARD, own, media_type.encode(), len(body))
    return SiteAnswer(code, head if head_only else head + body)


def redirect(to: str, cookie: bytes | None = None) -> SiteAnswer:
    """303: see the page there. `to` is a path of this site."""
    set_cookie = b"Set-Cookie: %s\r\n" % one_line(cookie) if cookie is not None else b""
    location = b"Location: %s\r\n" % one_line(to.encode("ascii", "replace"))
    return SiteAnswer(303, GUARD + NO_STORE + set_cookie + location + b"Content-Length: 0\r\n\r\n")


def not_modified(fields: Iterable[bytes]) -> SiteAnswer:
    """304: what the browser has is still right (RFC 9110, 15.4.5)."""
    return SiteAnswer(304, GUARD + b"".join(fields) + b"\r\n")


def set_cookie(name: str, value: str, *, secure: bool, max_age_s: int) -> bytes:
    """A cookie for the pages alone, that no script reads and no other site's form sends (RFC 6265bis)."""
    parts = [f"{name}={value}", "Path=/admin", "HttpOnly", "SameSite=Strict", f"Max-Age={max_age_s}", *(["Secure"] if secure else [])]
    return "; ".join(parts).encode("ascii")
