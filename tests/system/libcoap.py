"""Requests by `coap-client-notls`, the client of libcoap: a program that nobody here wrote.

Responsible for running it and for reading what it says. Not responsible for what is asked.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.system.namespaces import Host


@dataclass(frozen=True)
class CoapReply:
    """What `coap-client-notls` got: the code of the last response, its options as the program words them, the payload."""

    code: str
    options: str
    payload: bytes

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()


class NoAnswerError(AssertionError):
    """libcoap's client ended without an answer; what it wrote."""


def coap_client(
    host: Host,
    method: str,
    uri: str,
    *arguments: str,
    payload: bytes | str = b"",
    wait_s: int = 20,
    program: str = "coap-client-notls",
) -> CoapReply:
    """Run libcoap's client (`program`: one of its builds with DTLS). A payload of any size goes block-wise as the program does it.

    Raises `NoAnswerError`.
    """
    with tempfile.TemporaryDirectory(prefix="m2m-") as folder:
        given, got = Path(folder, "given"), Path(folder, "got")
        given.write_bytes(payload.encode() if isinstance(payload, str) else payload)
        sent = ["-f", str(given)] if payload else []
        command = [program, "-v", "7", "-B", str(wait_s), "-m", method, "-o", str(got), *sent, *arguments, uri]
        done = host.run(command, timeout_s=wait_s + 30)
        answers = re.findall(r"^v:1 t:\w+ c:([245]\.\d\d) i:\w+ \{\w*\} \[ (.*?) ?\](?: ::.*)?$", done.stdout, re.MULTILINE)
        if not answers:
            raise NoAnswerError(f"no answer: {' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        code, options = answers[-1]
        body = got.read_bytes() if got.exists() else b""
        return CoapReply(code, options, body if code.startswith("2") else done.stderr.encode())
