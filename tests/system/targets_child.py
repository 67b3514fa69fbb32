"""Targets of operations that are no nodes: `python -m tests.system.targets_child ADDRESS HTTP_PORT COAP_PORT`.

It says `serving` when it does. It prints a line for each request before it answers: scheme, method, path, trace (`-` where none came) and
what was sent along. By HTTP
    /hang        never answers
    /flood       answers with 100 MB
    /redirect    sends to /never
    /slow        takes 20 ms
and any other path answers at once. By CoAP (aiocoap) everything below /t does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys

import aiocoap
import aiocoap.resource

_SLOW_S = 0.02
_FLOOD_BYTES, _PART = 100_000_000, b"x" * 100_000
_DONE = b"HTTP/1.1 204 No Content\r\n\r\n"


def _note(scheme: str, method: str, path: str, trace: str, payload: bytes) -> None:
    print(scheme, method, path, trace, payload.decode("utf-8", "replace"), flush=True)


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            payload = await reader.readexactly(int(length[1])) if length is not None else b""
            trace = re.search(r"(?i)\r\ntraceparent: *[0-9a-f]{2}-([0-9a-f]{32})-", head)
            _note("http", method, path, trace[1] if trace is not None else "-", payload)
            await _answer(path, writer)
            await writer.drain()


async def _answer(path: str, writer: asyncio.StreamWriter) -> None:
    if path == "/hang":
        await asyncio.Event().wait()
    elif path == "/flood":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(_FLOOD_BYTES // len(_PART)):
            writer.write(b"%x\r\n%b\r\n" % (len(_PART), _PART))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    elif path == "/redirect":
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /never\r\nContent-Length: 0\r\n\r\n")
    else:
        await asyncio.sleep(_SLOW_S if path == "/slow" else 0)
        writer.write(_DONE)


class _Targets(aiocoap.resource.Resource, aiocoap.resource.PathCapable):  # type: ignore[misc]  # aiocoap has no types
    """Everything below a path."""

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        _note("coap", request.code.name, "/" + "/".join(("t", *request.opt.uri_path)), "-", request.payload)
        return aiocoap.Message(code=aiocoap.CHANGED)


async def serve(address: str, http_port: int, coap_port: int) -> None:
    """Serve until it is ended."""
    site = aiocoap.resource.Site()
    site.add_resource(["t"], _Targets())
    await aiocoap.Context.create_server_context(site, bind=(address, coap_port))
    await asyncio.start_server(_http, address, http_port)
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
