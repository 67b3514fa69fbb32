"""The settings of the bootstrap server: the table `[bootstrap]`, the plans in its folder, the credentials that they name.

Reads these files, so that a fault in any of them is told before the node starts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from m2mapp.formats.certificates import certificate_der
from m2mapp.formats.shapes import Field, Shape, Wrong, integer, number
from m2mapp.lwm2m.accounts import Credentials
from m2mapp.lwm2m.plans import FILE, PlanBook, PlanShape, plan_of
from m2mapp.model.errors import Fault, Malformed
from m2mapp.tree.unit import Document

_LARGEST_FILE = 1 << 20
_CREDENTIALS = "credentials"


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """The bootstrap server. `plans` are those of files, by name; `credentials` by the name that plans give.

    `session_s` is for one session as a whole; `sessions` go on at one time, `sessions_per_host` of them with one address.
    """

    plans: Mapping[str, Document] = field(default_factory=dict)
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    session_s: float = 120.0
    sessions: int = 1024
    sessions_per_host: int = 64


def _folder(value: object) -> str:
    if not isinstance(value, str) or not FilePath(value).is_dir():
        raise Wrong(value, "the path of a folder with plans, such as /etc/m2mapp/bootstrap.d")
    return value


def _bytes_of(value: object) -> bytes:
    try:
        with FilePath(value if isinstance(value, str) else "").open("rb") as stream:
            return stream.read(_LARGEST_FILE)
    except (OSError, ValueError) as error:
        raise Wrong(value, f"a file that can be read ({error.strerror if isinstance(error, OSError) else error})") from error


def _certificate(value: object) -> bytes:
    try:
        return certificate_der(_bytes_of(value), "certificate")
    except Malformed as fault:
        raise Wrong(value, f"a file with {fault.expected}") from fault


def _key(value: object) -> bytes:
    data = _bytes_of(value)
    load = load_pem_private_key if data.lstrip().startswith(b"-----BEGIN") else load_der_private_key
    try:
        return load(data, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Wrong(value, "a file with a private key, DER or PEM, without a passphrase") from error


_TABLE = Shape(
    {
        "plans": Field(_folder, None),
        "session_s": Field(number(1, 3600), 120.0),
        "sessions": Field(integer(1, 100_000), 1024),
        "sessions_per_host": Field(integer(1, 100_000), 64),
        _CREDENTIALS: Field(lambda value: value, None),
    }
)
_FILES = Shape({"certificate": Field(_certificate), "key": Field(_key), "server": Field(_certificate)})


def read(table: Mapping[str, object], where: str) -> tuple[BootstrapSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key, the file's name before each key of a plan."""
    values, faults = _TABLE.read(table, where)
    credentials = _credentials(values[_CREDENTIALS] or {}, where, faults)
    folder = values.get("plans")
    plans = _plans(FilePath(folder), PlanShape(credentials), faults) if isinstance(folder, str) else {}
    if faults:
        return BootstrapSettings(), faults
    sizes = {name: value for name, value in values.items() if isinstance(value, int)}
    limit_s = values["session_s"]
    return BootstrapSettings(
        plans, credentials, limit_s if isinstance(limit_s, float) else 0.0, sizes["sessions"], sizes["sessions_per_host"]
    ), []


def _credentials(given: object, where: str, faults: list[Malformed]) -> dict[str, Credentials]:
    """The credentials; a table at fault is there with nothing in it, so that a plan that names it is not told to be at fault, too."""
    if not isinstance(given, Mapping):
        faults.append(Malformed(f"{where}{_CREDENTIALS}", given, "a table of tables, [bootstrap.credentials.NAME]"))
        return {}
    found: dict[str, Credentials] = {}
    for name, table in given.items():
        place = f"[bootstrap.{_CREDENTIALS}.{name}] "
        if not isinstance(table, Mapping):
            faults.append(Malformed(place.strip(), table, "a table with certificate, key and server"))
            continue
        values, wrong = _FILES.read(table, place)
        if not wrong:
            wrong = _pair(values, place)
        faults += wrong
        parts = [b"" if wrong else bytes(values[part]) for part in ("certificate", "key", "server")]  # type: ignore[call-overload]
        found[name] = Credentials(*parts)
    return found


def _pair(values: Mapping[str, object], place: str) -> list[Malformed]:
    certificate, key = values["certificate"], values["key"]
    if not isinstance(certificate, bytes) or not isinstance(key, bytes):
        return []
    shown = x509.load_der_x509_certificate(certificate).public_key()
    own = load_der_private_key(key, None).public_key()
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if shown.public_bytes(*form) == own.public_bytes(*form):
        return []
    return [Malformed(f"{place}key", "a key of another certificate", "the private key of the certificate")]


def _plans(folder: FilePath, shape: PlanShape, faults: list[Malformed]) -> dict[str, Document]:
    """The plans in the files `*.toml` of the folder, each named as its file; two that are for the same devices are a fault."""
    book = PlanBook()
    plans: dict[str, Document] = {}
    for file in sorted(folder.glob("*.toml")):
        document = _toml(file, faults)
        if document is None:
            continue
        values, wrong = shape.read(document, f"{file}: ")
        faults += wrong
        if wrong:
            continue
        plan = plan_of(file.stem, values)
        try:
            book.check(plan)
        except Fault as fault:
            faults.append(Malformed(str(file), plan.who or plan.selector.value, f"good: {fault.detail}"))
        book.put(plan)
        plans[file.stem] = {**values, FILE: str(file)}
    return plans


def _toml(file: FilePath, faults: list[Malformed]) -> dict[str, object] | None:
    try:
        return tomllib.loads(_bytes_of(str(file)).decode())
    except Wrong as wrong:
        faults.append(Malformed(str(file), wrong.value, wrong.expected))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(Malformed(str(file), "a file", f"TOML: {error}"))
    return None
