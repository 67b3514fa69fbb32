"""A server made with aiocoap that serves `/temperature` only to who shows its address by Echo (RFC 9175), as a resource of it can.

Run by `test_echo` in a host of its own. It prints a line for each request: the Echo value that came, in hexadecimal, or `none`.
"""

from __future__ import annotations

import asyncio
import sys

import aiocoap
from aiocoap import resource

_VALUE = b"shown"


class _Temperature(resource.Resource):  # type: ignore[misc]  # aiocoap has no types
    """Wants Echo of everybody."""

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        print(request.opt.echo.hex() if request.opt.echo is not None else "none", flush=True)
        if request.opt.echo == _VALUE:
            return aiocoap.Message(payload=b"21.5", content_format=0)
        answer = aiocoap.Message(code=aiocoap.UNAUTHORIZED)
        answer.opt.echo = _VALUE
        return answer


async def _serve(address: str) -> None:
    site = resource.Site()
    site.add_resource(["temperature"], _Temperature())
    await aiocoap.Context.create_server_context(site, bind=(address, 5683))
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
