"""A server of aiocoap as a process of its own: `python -m tests.system.aiocoap_server ADDRESS [GROUP]`. It says `serving` when it does.

/blob       keeps what is PUT, gives it with GET; `?szx=N` in blocks of 16 << N bytes
/slow       answers after a second, thus separately
/error/N    answers with the code of that number
/name       answers ADDRESS
A group is joined on `eth0`; /.well-known/core has all of them. Not responsible for observations: `observe_child` has a server for these.
"""

from __future__ import annotations

import asyncio
import sys

import aiocoap
import aiocoap.resource
from aiocoap.numbers import Code

_SLOW_S = 1.0


class _Blob(aiocoap.resource.Resource):  # type: ignore[misc]  # aiocoap has no types
    """Bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = b""

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        for argument in request.opt.uri_query:
            if argument.startswith("szx=") and request.opt.block2 is None:
                request.opt.block2 = (0, 0, int(argument[4:]))  # as if the client had asked: aiocoap's server has no size of its own
        return aiocoap.Message(payload=self.kept)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.kept = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)


class _Slow(aiocoap.resource.Resource):  # type: ignore[misc]
    """Takes its time."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        await asyncio.sleep(_SLOW_S)
        return aiocoap.Message(payload=b"done")


class _Error(aiocoap.resource.Resource):  # type: ignore[misc]
    """One code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = Code(code)

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=self._code, payload=b"why")


class _Name(aiocoap.resource.Resource):  # type: ignore[misc]
    """Who this is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=self._name.encode())


async def serve(address: str, group: str | None) -> None:
    """Serve until it is ended."""
    site = aiocoap.resource.Site()
    site.add_resource([".well-known", "core"], aiocoap.resource.WKCResource(site.get_resources_as_linkheader))
    for path, resource in (("blob", _Blob()), ("slow", _Slow()), ("name", _Name(address))):
        site.add_resource([path], resource)
    for code in (*range(128, 160), *range(160, 192)):
        if code in set(Code):
            site.add_resource(["error", str(code)], _Error(code))
    bind = ("::", 5683) if group else (address, 5683)
    await aiocoap.Context.create_server_context(site, bind=bind, multicast=[(group, "eth0")] if group else [])
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
