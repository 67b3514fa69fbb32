"""What the numbers of CoAP mean: codes, options and their properties, Content-Formats.

Responsible for the tables; the names and values that RFC 7252 and RFC 7959 have come from txThings, the later ones and the
program's own are here. Not responsible for reading or writing messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from m2mapp.coap import things
from m2mapp.model.messages import Method

FETCH: Final = 5
PATCH: Final = 6
IPATCH: Final = 7
CONFLICT: Final = 137
TOO_MANY_REQUESTS: Final = 157
HOP_LIMIT_REACHED: Final = 168

HOP_LIMIT: Final = 16
ECHO: Final = 252
NO_RESPONSE: Final = 258
REQUEST_TAG: Final = 292
REQUEST_ID: Final = 65052
CAUSE: Final = 65084
DEADLINE: Final = 65116
REQUESTER: Final = 65148

LARGEST_OPTION: Final = 65535
CAUSES: Final = 16
"""How many operations M2M-Cause lists at most (spec section 6)."""

METHOD_OF_CODE: Final[dict[int, Method]] = {
    things.GET: Method.GET,
    things.POST: Method.POST,
    things.PUT: Method.PUT,
    things.DELETE: Method.DELETE,
    PATCH: Method.PATCH,
    IPATCH: Method.PATCH,
}
"""The method of each request code; RFC 8132 for PATCH and iPATCH, which a tree of merge patches need not tell apart."""

CODE_OF_METHOD: Final[dict[Method, int]] = {
    Method.GET: things.GET,
    Method.POST: things.POST,
    Method.PUT: things.PUT,
    Method.DELETE: things.DELETE,
    Method.PATCH: IPATCH,
}
"""The code that a request goes out with. A merge patch is idempotent, so that PATCH goes out as iPATCH (RFC 8132, section 3)."""


_CODE_TEXTS: Final = tuple(f"{code >> 5}.{code & 31:02d}" for code in range(256))


def code_text(code: int) -> str:
    """A code as people write it: 69 is "2.05" (RFC 7252, section 3)."""
    return _CODE_TEXTS[code]


@dataclass(frozen=True, slots=True)
class OptionFormat:
    """What a known option looks like: its name, how many bytes its value may have, whether it may come more than once."""

    name: str
    shortest: int
    longest: int
    repeatable: bool = False


OPTIONS: Final[dict[int, OptionFormat]] = {
    things.IF_MATCH: OptionFormat("If-Match", 0, 8, True),
    things.URI_HOST: OptionFormat("Uri-Host", 1, 255),
    things.ETAG: OptionFormat("ETag", 1, 8, True),
    things.IF_NONE_MATCH: OptionFormat("If-None-Match", 0, 0),
    things.OBSERVE: OptionFormat("Observe", 0, 3),
    things.URI_PORT: OptionFormat("Uri-Port", 0, 2),
    things.LOCATION_PATH: OptionFormat("Location-Path", 0, 255, True),
    things.URI_PATH: OptionFormat("Uri-Path", 0, 255, True),
    things.CONTENT_FORMAT: OptionFormat("Content-Format", 0, 2),
    things.MAX_AGE: OptionFormat("Max-Age", 0, 4),
    things.URI_QUERY: OptionFormat("Uri-Query", 0, 255, True),
    HOP_LIMIT: OptionFormat("Hop-Limit", 1, 1),
    things.ACCEPT: OptionFormat("Accept", 0, 2),
    things.LOCATION_QUERY: OptionFormat("Location-Query", 0, 255, True),
    things.BLOCK2: OptionFormat("Block2", 0, 3),
    things.BLOCK1: OptionFormat("Block1", 0, 3),
    things.SIZE2: OptionFormat("Size2", 0, 4),
    things.PROXY_URI: OptionFormat("Proxy-Uri", 1, 1034),
    things.PROXY_SCHEME: OptionFormat("Proxy-Scheme", 1, 255),
    things.SIZE1: OptionFormat("Size1", 0, 4),
    ECHO: OptionFormat("Echo", 1, 40),
    NO_RESPONSE: OptionFormat("No-Response", 0, 1),
    REQUEST_TAG: OptionFormat("Request-Tag", 0, 8, True),
    REQUEST_ID: OptionFormat("M2M-Request-Id", 8, 8),
    REQUESTER: OptionFormat("M2M-Requester", 8, 8),
    CAUSE: OptionFormat("M2M-Cause", 1, 255, True),
    DEADLINE: OptionFormat("M2M-Deadline", 0, 4),
}
"""The options that this program knows: RFC 7252 5.10, RFC 7959, RFC 7967, RFC 8768, RFC 9175, and spec sections 4 and 6."""


def option_name(number: int) -> str:
    """The name of an option, or "option 9999" where it has none here."""
    known = OPTIONS.get(number)
    return known.name if known else f"option {number}"


def is_no_cache_key(number: int) -> bool:
    """Whether requests that differ in this option alone ask for the same (RFC 7252, section 5.4.6)."""
    return number & 0x1E == 0x1C  # noqa: PLR2004 - the mask and the pattern of the RFC's figure 11


TEXT: Final = 0
OCTETS: Final = 42

_MEDIA_TYPES: Final[dict[int, str]] = {
    TEXT: "text/plain;charset=utf-8",
    21: "image/gif",
    22: "image/jpeg",
    23: "image/png",
    40: "application/link-format",
    41: "application/xml",
    OCTETS: "application/octet-stream",
    47: "application/exi",
    50: "application/json",
    51: "application/json-patch+json",
    52: "application/merge-patch+json",
    60: "application/cbor",
    61: "application/cwt",
    63: "application/cbor-seq",
    64: "application/link-format+cbor",
    110: "application/senml+json",
    111: "application/sensml+json",
    112: "application/senml+cbor",
    113: "application/sensml+cbor",
    256: "application/coap-group+json",
    257: "application/problem-details+cbor",
    310: "application/senml+xml",
    320: "application/senml-etch+json",
    322: "application/senml-etch+cbor",
    432: "application/td+json",
    10000: "application/vnd.ocf+cbor",
    11542: "application/vnd.oma.lwm2m+tlv",
    11543: "application/vnd.oma.lwm2m+json",
    11544: "application/vnd.oma.lwm2m+cbor",
    65010: "application/vnd.m2m.resource+json",
    65011: "application/vnd.m2m.resource+cbor",
    65012: "application/vnd.m2m.group-results+json",
    65013: "application/vnd.m2m.group-results+cbor",
}
_FORMATS: Final[dict[str, int]] = {name: number for number, name in _MEDIA_TYPES.items()} | {"text/plain": TEXT}
_REMEMBERED: Final = 256
_found: dict[str, int | None] = {}


def media_type_of(number: int) -> str | None:
    """The media type of a Content-Format, or None where the number is not known here."""
    return _MEDIA_TYPES.get(number)


def format_of(media_type: str) -> int | None:
    """The Content-Format of a media type, parameters and case as RFC 9110 8.3.1 has them; None where it has no number.

    `charset=utf-8` changes nothing; any other parameter that the registry's entry does not have makes it another media type.
    """
    try:
        return _found[media_type]
    except KeyError:
        parts = [part.strip() for part in media_type.lower().replace('"', "").split(";")]
        number = _FORMATS.get(";".join(part for part in parts if part and part != "charset=utf-8"))
        if len(_found) >= _REMEMBERED:
            _found.clear()
        _found[media_type] = number
        return number
