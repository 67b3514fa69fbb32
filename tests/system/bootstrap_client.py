"""A program that is an LwM2M client while it is bootstrapped, made with aiocoap: what it is asked goes to standard output as JSON.

Run in a place of its own by `bootstrap`. It knows the formats that it is told, and refuses what it is told to refuse.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import aiocoap
from aiocoap.resource import Resource

from tests.system.programs import ROOT, Place

_WAIT_S = 20.0


@dataclass(frozen=True)
class Client:
    """A client: where it is, whom it asks, as whom. `query` is that of its request.

    `formats`: the Content-Formats that it takes; others are 4.15. `refuses`: requests ("DELETE /") that it answers with 4.05.
    """

    address: str
    server: str
    query: str
    formats: tuple[int, ...] = (11542, 110, 112)
    refuses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """One request of the server: "PUT /0/1", its Content-Format, its payload in hexadecimal."""

    request: str
    content_format: int | None
    payload: str


def bootstrap(place: Place, client: Client) -> tuple[str, list[Asked]]:
    """Let a client ask: the code of the answer to its request, and what it was asked until Finish (all, if there was none in time)."""
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", __name__]
    done = place.run(command, timeout_s=60 + _WAIT_S, text=json.dumps(asdict(client)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told["code"], [Asked(**each) for each in told["asked"]]


class _Objects(Resource):  # type: ignore[misc]  # aiocoap has no types
    def __init__(self, formats: Sequence[int], refuses: Sequence[str]) -> None:
        super().__init__()
        self.asked: list[dict[str, object]] = []
        self.finished = asyncio.Event()
        self._formats, self._refuses = formats, refuses

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        name = f"{request.code} /{'/'.join(request.opt.uri_path)}"
        content_format = request.opt.content_format
        number = None if content_format is None else int(content_format)
        self.asked.append({"request": name, "content_format": number, "payload": request.payload.hex()})
        if name == "POST /bs":
            self.finished.set()
        if name in self._refuses:
            return aiocoap.Message(code=aiocoap.METHOD_NOT_ALLOWED)
        if number is not None and number not in self._formats:
            return aiocoap.Message(code=aiocoap.UNSUPPORTED_CONTENT_FORMAT)
        if request.code == aiocoap.GET:
            return aiocoap.Message(code=aiocoap.CONTENT, payload=b'lwm2m="1.1",</0/1>,</3/0>', content_format=40)
        return aiocoap.Message(code=aiocoap.DELETED if request.code == aiocoap.DELETE else aiocoap.CHANGED)


async def _main(given: dict[str, object]) -> None:
    objects = _Objects(given["formats"], given["refuses"])  # type: ignore[arg-type]
    context = await aiocoap.Context.create_server_context(objects, bind=(str(given["address"]), 5683))
    try:
        uri = f"coap://[{given['server']}]/bs?{given['query']}"
        answer = await asyncio.wait_for(context.request(aiocoap.Message(code=aiocoap.POST, uri=uri)).response, _WAIT_S)
        if answer.code.is_successful():
            await asyncio.wait_for(objects.finished.wait(), _WAIT_S)
            await asyncio.sleep(0.2)  # the last answer is on its way
    finally:
        await context.shutdown()
    print(json.dumps({"code": answer.code.dotted, "asked": objects.asked}))


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.stdin.read())))
