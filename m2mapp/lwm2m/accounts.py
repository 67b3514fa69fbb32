"""What a device is written: the instances of the objects Security (0) and Server (1) that a plan's servers come to.

Pure (OMA TS-LightweightM2M-Core 1.1, appendix E.1 and E.2). Not responsible for the formats (`objects`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from m2mapp.formats.link_format import parse_links
from m2mapp.lwm2m.objects import Instance
from m2mapp.lwm2m.plans import Account, Plan, Security
from m2mapp.model.errors import Fault

SECURITY, SERVER = 0, 1
_URI, _BOOTSTRAP, _MODE, _PUBLIC_KEY, _SERVER_KEY, _SECRET_KEY, _SECURITY_SHORT_ID = 0, 1, 2, 3, 4, 5, 10
_SHORT_ID, _LIFETIME, _STORING, _BINDING = 0, 1, 6, 7


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device shows a server and whom it believes: its certificate (DER), its key (PKCS #8, DER), the server's certificate (DER)."""

    certificate: bytes
    key: bytes
    server: bytes

    def __repr__(self) -> str:
        """Without the key: it must not come into a log."""
        return "Credentials(...)"


def instances(plan: Plan, credentials: Mapping[str, Credentials], taken: Iterable[int] = ()) -> tuple[Instance, ...]:
    """The instances in the order in which they are written: all of Security, then all of Server.

    They are numbered from 1, since 0 is mostly the account of the bootstrap server; of Security without the numbers in `taken`.
    """
    used = set(taken)
    free = [number for number in range(1, len(plan.accounts) + len(used) + 1) if number not in used]
    security = [Instance(SECURITY, number, _security(account, credentials)) for number, account in zip(free, plan.accounts, strict=False)]
    return (*security, *(Instance(SERVER, number, _server(account)) for number, account in enumerate(plan.accounts, 1)))


def _security(account: Account, credentials: Mapping[str, Credentials]) -> dict[int, str | int | bool | bytes]:
    written: dict[int, str | int | bool | bytes] = {
        _URI: account.uri,
        _BOOTSTRAP: False,
        _SECURITY_SHORT_ID: account.short_id,
        _MODE: account.security.value,
    }
    if account.security is Security.CERTIFICATE:
        shown = credentials[account.credentials]
        written |= {_PUBLIC_KEY: shown.certificate, _SERVER_KEY: shown.server, _SECRET_KEY: shown.key}
    return written


def _server(account: Account) -> dict[int, str | int | bool | bytes]:
    return {_SHORT_ID: account.short_id, _LIFETIME: account.lifetime_s, _STORING: account.storing, _BINDING: account.binding}


def security_numbers(discovered: bytes) -> frozenset[int]:
    """The numbers of the Security instances that a client has, by its answer to Bootstrap-Discover (1.1, section 6.1.7.3).

    Asked after everything else was deleted, these are the bootstrap server's own accounts. The list begins with the version, as
    `</>;lwm2m=1.1` or, in 1.0, as `lwm2m="1.0"`, which is no link. What is no list of links says nothing.
    """
    try:
        text = discovered.decode()
        links = parse_links(text.partition(",")[2] if text.startswith("lwm2m=") else text)
    except (Fault, UnicodeDecodeError):
        return frozenset()
    parts = [link.target.strip("/").split("/") for link in links]
    numbers = [each[1] for each in parts if len(each) == 2 and each[0] == str(SECURITY)]  # noqa: PLR2004 - object and instance
    return frozenset(int(number) for number in numbers if number.isascii() and number.isdecimal() and len(number) <= 5)  # noqa: PLR2004
