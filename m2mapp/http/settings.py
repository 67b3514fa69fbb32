"""The settings of HTTP: the table `[http]`, with further tokens as `[[http.tokens]]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.endpoints import serverFromString

from m2mapp.formats.shapes import Field, Shape, Wrong, choice, list_of, table_of, text
from m2mapp.http.tokens import TokenSetting
from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.identifiers import path_text
from m2mapp.model.principal import Role
from m2mapp.tree.paths import parse_path

_PARTS = re.compile(r"(?:[^:\\]|\\.)*")
_ANY_HOST = {"tcp": "0.0.0.0", "tcp6": "::"}  # noqa: S104 - what the endpoint means that names none
_USUAL_LISTEN = ("tcp:8080:interface=127.0.0.1",)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where HTTP is served (Twisted endpoint strings), and the tokens besides the administrator's."""

    listen: tuple[str, ...] = _USUAL_LISTEN
    tokens: tuple[TokenSetting, ...] = ()

    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports of the TCP endpoints, where the strings say them; the port is that of this node's own URIs."""
        found = (_address(endpoint) for endpoint in self.listen)
        return [address for address in found if address is not None]


def _address(endpoint: str) -> tuple[str, int] | None:
    """The address and port of a TCP endpoint string: `tcp:80:interface=::1` with each `:` of a value escaped; None for others."""
    kind, *arguments = (part.replace("\\", "") for part in _PARTS.findall(endpoint) if part)
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    first = next((argument for argument in arguments if "=" not in argument), "")
    port = named.get("port", first)
    if kind not in _ANY_HOST or not (port.isascii() and port.isdecimal()):
        return None
    return named.get("interface") or _ANY_HOST[kind], int(port)


def _endpoint(value: object) -> str:
    try:
        serverFromString(object(), value if isinstance(value, str) else "")
    except Exception as error:
        # Endpoint parsers are plug-ins: each raises what it likes about its own arguments.
        raise Wrong(value, f"a Twisted endpoint such as tcp:8080:interface=127.0.0.1 ({error})") from error
    return str(value)


def _scope(value: object) -> str:
    try:
        return path_text(parse_path(value if isinstance(value, str) else ""))
    except Fault as fault:
        raise Wrong(value, "a path such as /groups") from fault


_TOKEN = Shape(
    {
        "name": Field(text),
        "role": Field(choice(*(role.value for role in Role))),
        "token_file": Field(text),
        "scopes": Field(list_of(_scope, least=1, most=64), ["/"]),
    }
)
_SHAPE = Shape(
    {
        "listen": Field(list_of(_endpoint, least=1, most=16), list(_USUAL_LISTEN)),
        "tokens": Field(list_of(table_of(_TOKEN), most=256), []),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[HttpSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    if faults:
        return HttpSettings(), faults
    listen, tokens = values["listen"], values["tokens"]
    return (
        HttpSettings(
            tuple(str(item) for item in listen) if isinstance(listen, list) else (),
            tuple(_token(item) for item in tokens if isinstance(item, dict)) if isinstance(tokens, list) else (),
        ),
        [],
    )


def _token(table: Mapping[str, object]) -> TokenSetting:
    scopes = table["scopes"]
    paths = tuple(parse_path(str(scope)) for scope in scopes) if isinstance(scopes, list) else ((),)
    return TokenSetting(str(table["name"]), Role(table["role"]), str(table["token_file"]), paths)
