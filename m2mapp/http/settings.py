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

_TCP = re.compile(r"(?:tcp|tcp6):(?:port=)?(?P<port>[0-9]+)(?::.*)?(?::interface=(?P<host>(?:[^:\\]|\\.)+)(?::.*)?)?")
_USUAL_LISTEN = ("tcp:8080:interface=127.0.0.1",)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where HTTP is served (Twisted endpoint strings), and the tokens besides the administrator's."""

    listen: tuple[str, ...] = _USUAL_LISTEN
    tokens: tuple[TokenSetting, ...] = ()

    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports of the TCP endpoints, where the strings say them; the port is that of this node's own URIs."""
        found = []
        for endpoint in self.listen:
            match = _TCP.fullmatch(endpoint)
            if match is not None:
                found.append((match["host"].replace("\\:", ":") if match["host"] else "::", int(match["port"])))
        return found


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
