"""`python -m m2mapp.coap`: asks a running gateway what passes on its CoAP ports, and prints it line by line until Ctrl-C.

Responsible for finding the gateway by its configuration file or by its URI, for signing in with the administrator's token, and for saying
plainly what keeps it from either. Not responsible for what the lines say (`coap.viewer`, in the gateway). No reactor: it waits for one
answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path as FilePath
from socket import socket
from typing import Final, TextIO
from urllib.parse import quote, urlencode

from m2mapp.config import EXIT_CONFIG, BadConfiguration, Settings, load
from m2mapp.formats.uris import parse_uri
from m2mapp.http.tokens import ADMIN_TOKEN
from m2mapp.model.errors import Fault
from m2mapp.tree.access import WIRE

USUAL_CONFIG: Final = "/etc/m2mapp/gateway.toml"
EXIT_FAILED: Final = 1
_ANSWER_S: Final = 10.0
_SILENT_S: Final = 60.0
"""The gateway sends something four times in this time, if only a sign of life."""
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens on all is asked at the loopback
_CONNECTIONS: Final = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_MAX_PROBLEM_BYTES: Final = 65_536


class CannotWatch(Exception):  # noqa: N818 - a fact for who sits before it, told in one line
    """Why nothing can be shown."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m m2mapp.coap",
        description="Shows what a running gateway sends and receives by CoAP, one line a message, until Ctrl-C.",
        epilog="Filters join: what is shown passes each of them. An answer goes with the path and the group of its request.",
    )
    found.add_argument("--config", default=USUAL_CONFIG, metavar="FILE", help=f"the gateway's configuration [{USUAL_CONFIG}]")
    found.add_argument("--gateway", metavar="URI", help="in place of --config: where the gateway is, such as http://127.0.0.1:8080")
    found.add_argument("--token", metavar="FILE", help="with --gateway: the file with the administrator's token, admin.token")
    found.add_argument("--peer", metavar="ADDRESS", help="only messages with this address, or with a prefix such as fd00::/64")
    found.add_argument("--group", metavar="ADDRESS", help="only requests to this multicast address, and the answers to them")
    found.add_argument("--path", metavar="PATH", help="only messages about this path and what is below it")
    found.add_argument("--hide-payload", action="store_true", help="show the size of payloads, not what they say")
    found.add_argument("--count", type=_whole, metavar="N", help="end after so many messages")
    found.add_argument("--seconds", type=_seconds, metavar="S", help="end after so many seconds")
    return found


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run the command; the exit code: 0, 1 where nothing could be shown, 78 for a fault of the configuration."""
    out = out or sys.stdout
    command = parser()
    given = command.parse_args(arguments)
    if (given.gateway is None) != (given.token is None):
        command.error("--gateway and --token go together")
    try:
        connection, token = _named(given.gateway, given.token) if given.gateway is not None else _configured(load(given.config))
        for line in lines(connection, token, given):
            out.write(line + "\n")
            out.flush()
    except BadConfiguration as bad:
        return _failed(bad.lines, EXIT_CONFIG)
    except CannotWatch as reason:
        return _failed([str(reason)], EXIT_FAILED)
    except BrokenPipeError:
        # Who reads has enough (`| head`). What is still in the buffer must not fail when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass
    return 0


def lines(connection: http.client.HTTPConnection, token: str, given: argparse.Namespace) -> Iterator[str]:
    """The gateway's lines, as long as is wanted. Raises `CannotWatch`."""
    ends_at = None if given.seconds is None else time.monotonic() + given.seconds
    with closing(connection):
        answer, sock = _ask(connection, _target(given), token)
        messages = 0
        for line in _until(answer, sock, ends_at):
            yield line
            # Remarks begin so; a message begins with its time.
            messages += not line.startswith("--")
            if messages == given.count:
                return


def _configured(settings: Settings) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the gateway of a configuration, not yet opened, and its token."""
    if settings.coap is None:
        raise CannotWatch("this gateway has no CoAP: its configuration has no table [coap]")
    found = settings.http.addresses() if settings.http is not None else []
    if not found:
        raise CannotWatch("its configuration does not say at which TCP port the gateway is: use --gateway and --token")
    host, port = found[0]
    connection = http.client.HTTPConnection(_LOOPBACK.get(host, host), port, timeout=_ANSWER_S)
    return connection, _token(FilePath(settings.node.state_dir) / ADMIN_TOKEN)


def _named(uri: str, token_file: str) -> tuple[http.client.HTTPConnection, str]:
    """The same for a gateway that is named by its URI."""
    try:
        found = parse_uri(uri)
    except Fault as fault:
        raise CannotWatch(f"--gateway {uri}: {fault.detail}") from fault
    if found.scheme not in _CONNECTIONS:
        raise CannotWatch(f"--gateway {uri}: it is asked by http or https")
    return _CONNECTIONS[found.scheme](found.host, found.port, timeout=_ANSWER_S), _token(FilePath(token_file))


def _token(file: FilePath) -> str:
    try:
        return file.read_text("ascii").strip()
    except FileNotFoundError:
        raise CannotWatch(f"there is no {file}: the gateway writes it when it is first started") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no token"
        raise CannotWatch(f"{file} cannot be read ({reason}): run this as root, or as the user of the gateway") from error


def _target(given: argparse.Namespace) -> str:
    filters = {name: getattr(given, name) for name in ("peer", "group", "path") if getattr(given, name) is not None}
    if given.hide_payload:
        filters["payload"] = "hide"
    return "/" + "/".join(WIRE) + (f"?{urlencode(filters, quote_via=quote)}" if filters else "")


def _ask(connection: http.client.HTTPConnection, target: str, token: str) -> tuple[http.client.HTTPResponse, socket]:
    place = f"{connection.host} port {connection.port}"
    try:
        connection.connect()
        sock: socket = connection.sock
        connection.request("GET", target, headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream"})
        answer = connection.getresponse()
        if answer.status == http.client.OK:
            return answer, sock
        problem = json.loads(answer.read(_MAX_PROBLEM_BYTES))
        detail = problem["detail"]
    except ConnectionRefusedError:
        raise CannotWatch(f"no gateway answers at {place}: is it running, with this configuration?") from None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise CannotWatch(f"no gateway answers at {place}: {error or type(error).__name__}") from error
    raise CannotWatch(f"the gateway refuses: {detail}")


def _until(answer: http.client.HTTPResponse, sock: socket, ends_at: float | None) -> Iterator[str]:
    """The lines of an event stream until a time."""
    while True:
        left_s = _SILENT_S if ends_at is None else ends_at - time.monotonic()
        if left_s <= 0:
            return
        sock.settimeout(min(left_s, _SILENT_S))
        try:
            raw = answer.readline()
        except TimeoutError:
            if ends_at is not None and time.monotonic() >= ends_at:
                return
            raise CannotWatch("the gateway has fallen silent") from None
        except (OSError, http.client.HTTPException) as error:
            raise CannotWatch(f"the gateway went away: {error or type(error).__name__}") from error
        if not raw:
            raise CannotWatch("the gateway has ended the stream: it is stopping")
        if raw.startswith(b"data: "):
            yield raw[len(b"data: ") :].decode(errors="backslashreplace").rstrip("\n")


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _failed(reasons: Sequence[str], code: int) -> int:
    for reason in reasons:
        sys.stderr.write(f"m2mapp.coap: {reason}\n")
    return code
