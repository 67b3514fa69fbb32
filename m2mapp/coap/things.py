"""The one door to txThings: its constants, with types. Nothing else in the program imports txThings.

Responsible for importing `txthings.coap` and for what that import does: it warns (a `SyntaxWarning` in its own source) and it
imports the global reactor. Whoever starts the program installs the reactor first (twistd does). Not responsible for messages on the
wire: `docs/decisions/2026-11-22-coap-codec.md` says why they are not txThings' own.
"""

from __future__ import annotations

import warnings
from typing import Final

with warnings.catch_warnings():
    # Its source compares an int with `is not`: true once per compilation, of no effect, and an error where warnings are errors.
    warnings.simplefilter("ignore")
    from txthings import coap as _coap

COAP_PORT: Final[int] = _coap.COAP_PORT

CON: Final[int] = _coap.CON
NON: Final[int] = _coap.NON
ACK: Final[int] = _coap.ACK
RST: Final[int] = _coap.RST

EMPTY: Final[int] = _coap.EMPTY
GET: Final[int] = _coap.GET
POST: Final[int] = _coap.POST
PUT: Final[int] = _coap.PUT
DELETE: Final[int] = _coap.DELETE
CREATED: Final[int] = _coap.CREATED
DELETED: Final[int] = _coap.DELETED
VALID: Final[int] = _coap.VALID
CHANGED: Final[int] = _coap.CHANGED
CONTENT: Final[int] = _coap.CONTENT
CONTINUE: Final[int] = _coap.CONTINUE
BAD_REQUEST: Final[int] = _coap.BAD_REQUEST
UNAUTHORIZED: Final[int] = _coap.UNAUTHORIZED
BAD_OPTION: Final[int] = _coap.BAD_OPTION
FORBIDDEN: Final[int] = _coap.FORBIDDEN
NOT_FOUND: Final[int] = _coap.NOT_FOUND
METHOD_NOT_ALLOWED: Final[int] = _coap.METHOD_NOT_ALLOWED
NOT_ACCEPTABLE: Final[int] = _coap.NOT_ACCEPTABLE
REQUEST_ENTITY_INCOMPLETE: Final[int] = _coap.REQUEST_ENTITY_INCOMPLETE
PRECONDITION_FAILED: Final[int] = _coap.PRECONDITION_FAILED
REQUEST_ENTITY_TOO_LARGE: Final[int] = _coap.REQUEST_ENTITY_TOO_LARGE
UNSUPPORTED_CONTENT_FORMAT: Final[int] = _coap.UNSUPPORTED_CONTENT_FORMAT
INTERNAL_SERVER_ERROR: Final[int] = _coap.INTERNAL_SERVER_ERROR
NOT_IMPLEMENTED: Final[int] = _coap.NOT_IMPLEMENTED
BAD_GATEWAY: Final[int] = _coap.BAD_GATEWAY
SERVICE_UNAVAILABLE: Final[int] = _coap.SERVICE_UNAVAILABLE
GATEWAY_TIMEOUT: Final[int] = _coap.GATEWAY_TIMEOUT
PROXYING_NOT_SUPPORTED: Final[int] = _coap.PROXYING_NOT_SUPPORTED

IF_MATCH: Final[int] = _coap.IF_MATCH
URI_HOST: Final[int] = _coap.URI_HOST
ETAG: Final[int] = _coap.ETAG
IF_NONE_MATCH: Final[int] = _coap.IF_NONE_MATCH
OBSERVE: Final[int] = _coap.OBSERVE
URI_PORT: Final[int] = _coap.URI_PORT
LOCATION_PATH: Final[int] = _coap.LOCATION_PATH
URI_PATH: Final[int] = _coap.URI_PATH
CONTENT_FORMAT: Final[int] = _coap.CONTENT_FORMAT
MAX_AGE: Final[int] = _coap.MAX_AGE
URI_QUERY: Final[int] = _coap.URI_QUERY
ACCEPT: Final[int] = _coap.ACCEPT
LOCATION_QUERY: Final[int] = _coap.LOCATION_QUERY
BLOCK2: Final[int] = _coap.BLOCK2
BLOCK1: Final[int] = _coap.BLOCK1
SIZE2: Final[int] = _coap.SIZE2
PROXY_URI: Final[int] = _coap.PROXY_URI
PROXY_SCHEME: Final[int] = _coap.PROXY_SCHEME
SIZE1: Final[int] = _coap.SIZE1

ACK_TIMEOUT_S: Final[float] = _coap.ACK_TIMEOUT
ACK_RANDOM_FACTOR: Final[float] = _coap.ACK_RANDOM_FACTOR
MAX_RETRANSMIT: Final[int] = _coap.MAX_RETRANSMIT
NSTART: Final[int] = _coap.NSTART
MAX_LATENCY_S: Final[float] = _coap.MAX_LATENCY
