"""Passwords: what one has to be, how it is kept (scrypt, RFC 7914), and whether one is right.

Pure and slow on purpose: `kept` and `is_right` take about a fifth of a second of processor and 16 MB, so they belong in a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from m2mapp.model.errors import Malformed

LEAST, MOST = 10, 256
_LOG2_N, _R, _P = 14, 8, 5
"""What OWASP's cheat sheet names as equal to N = 2^17, r = 8, p = 1, with an eighth of the memory: gateways have little."""
_SALT_BYTES, _KEY_BYTES = 16, 32


def check_new(password: str, name: str) -> str:
    """The password, if it may be one. Raises `Malformed`, which does not say the password."""
    if not LEAST <= len(password) <= MOST:
        raise Malformed(
            "password", f"one of {len(password)} characters", f"a password of {LEAST} to {MOST} characters: a few words are fine"
        )
    if name.lower() in password.lower() or len(set(password)) < LEAST // 2:
        raise Malformed("password", "this one", "a password that is not made of the name or of a few characters again and again")
    return password


def kept(password: str) -> str:
    """What is kept of a password: the parameters, a new salt, and the key that scrypt makes of them."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _key(password, salt, (_LOG2_N, _R, _P))
    return _written(salt, key)


def is_right(password: str, stored: str | None) -> bool:
    """Whether a password is the one of which this was kept. For None, nobody's, it takes as long and is False."""
    known = stored if stored is not None else _written(bytes(_SALT_BYTES), bytes(_KEY_BYTES))
    try:
        _, log2_n, r, p, salt, key = known.split("$")
        found = _key(password, base64.b64decode(salt), (int(log2_n), int(r), int(p)))
        return hmac.compare_digest(found, base64.b64decode(key)) and stored is not None
    except (ValueError, binascii.Error):
        return False


def _key(password: str, salt: bytes, parameters: tuple[int, int, int]) -> bytes:
    log2_n, r, p = parameters
    n = 1 << log2_n
    return hashlib.scrypt(password[:MOST].encode(), salt=salt, n=n, r=r, p=p, maxmem=(n + p + 2) * 128 * r, dklen=_KEY_BYTES)


def _written(salt: bytes, key: bytes) -> str:
    return f"scrypt${_LOG2_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
