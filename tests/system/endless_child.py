"""A peer that never stops: `python -m tests.system.endless_child COAP_PORT HTTP_PORT`, on 127.0.0.1. It says `serving` when it does.

/good answers as it should. By CoAP any other path has an answer of blocks without end; by HTTP /head has headers without end, any other
path a body without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from m2mapp.coap import things
from m2mapp.coap.blocks import FIRST, Block
from m2mapp.coap.message import Message, build, parse

_PART = b"x" * 65_536
_HEADERS = b"a: b\r\n" * 10_000


class _Coap(asyncio.DatagramProtocol):
    """Answers each request at once, in its acknowledgement."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: object) -> None:
        asked = parse(data)
        if asked.first(things.URI_PATH) == b"good":
            answer = Message(things.ACK, things.CONTENT, asked.mid, asked.token, (), b"good")
        else:
            block = Block.parse(asked.first(things.BLOCK2) or FIRST.build(), "Block2")
            option = (things.BLOCK2, Block(block.number, True, block.exponent).build())
            answer = Message(things.ACK, things.CONTENT, asked.mid, asked.token, (option,), b"x" * block.size)
        self._transport.sendto(build(answer), source)  # type: ignore[attr-defined]  # a datagram transport


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        if path == b"/good":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n" if path == b"/head" else b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(_HEADERS if path == b"/head" else _PART)
            await writer.drain()


async def _serve(coap_port: int, http_port: int) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(_Coap, ("127.0.0.1", coap_port))
    await asyncio.start_server(_http, "127.0.0.1", http_port)
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
