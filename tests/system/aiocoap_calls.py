"""A program that makes requests with aiocoap's client: a list of JSON objects on standard input, one answer for each on standard output.

Run in a host of its own by `call_aiocoap`, so that what is tested speaks with a whole process of another implementation.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import aiocoap

from tests.system.programs import ROOT, Place

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Call:
    """One request. `content_format` and `accept` are numbers; `etags` go out as ETag options, those of `if_match` as If-Match.

    `size_exponent`: payloads go, and answers are asked for, in blocks of 16 << size_exponent bytes. `proxy`: a Proxy-Uri option.
    """

    method: str
    uri: str
    payload: bytes = b""
    content_format: int | None = None
    accept: int | None = None
    if_match: tuple[bytes, ...] = ()
    if_none_match: bool = False
    etags: tuple[bytes, ...] = ()
    size_exponent: int | None = None
    proxy: str | None = None


@dataclass(frozen=True)
class Called:
    """What came back: the code as text, the payload, and what some options say."""

    code: str
    payload: bytes
    content_format: int | None
    etag: bytes | None
    location: str

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()


def call_aiocoap(place: Place, *calls: Call) -> list[Called]:
    """Make the requests, one after another, by one client in one process in that place."""
    asked = [
        {
            **{
                name: getattr(call, name)
                for name in ("method", "uri", "content_format", "accept", "if_none_match", "size_exponent", "proxy")
            },
            "payload": call.payload.hex(),
            "if_match": [tag.hex() for tag in call.if_match],
            "etags": [tag.hex() for tag in call.etags],
        }
        for call in calls
    ]
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", __name__]
    done = place.run(command, timeout_s=60 + _TIMEOUT_S * len(calls), text=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return [
        Called(
            code=answer["code"],
            payload=bytes.fromhex(answer["payload"]),
            content_format=answer["content_format"],
            etag=bytes.fromhex(answer["etag"]) if answer["etag"] is not None else None,
            location=answer["location"],
        )
        for answer in map(json.loads, done.stdout.splitlines())
    ]


def _message(asked: Mapping[str, object]) -> aiocoap.Message:
    message = aiocoap.Message(
        code=getattr(aiocoap, str(asked["method"])), uri=str(asked["uri"]), payload=bytes.fromhex(str(asked["payload"]))
    )
    if asked["size_exponent"] is not None:
        message.remote.maximum_block_size_exp = asked["size_exponent"]
        message.opt.block2 = (0, 0, asked["size_exponent"])
    message.opt.proxy_uri = asked["proxy"]
    message.opt.content_format = asked["content_format"]
    message.opt.accept = asked["accept"]
    message.opt.if_match = [bytes.fromhex(tag) for tag in _tags(asked["if_match"])]
    message.opt.etags = [bytes.fromhex(tag) for tag in _tags(asked["etags"])]
    if asked["if_none_match"]:
        message.opt.if_none_match = True
    return message


def _tags(value: object) -> list[str]:
    return value if isinstance(value, list) else []


async def _answers(calls: list[dict[str, object]]) -> None:
    client = await aiocoap.Context.create_client_context()
    try:
        for asked in calls:
            answer = await asyncio.wait_for(client.request(_message(asked)).response, _TIMEOUT_S)
            found = {
                "code": answer.code.dotted,
                "payload": answer.payload.hex(),
                "content_format": None if answer.opt.content_format is None else int(answer.opt.content_format),
                "etag": None if answer.opt.etag is None else answer.opt.etag.hex(),
                "location": "/" + "/".join(answer.opt.location_path) if answer.opt.location_path else "",
            }
            print(json.dumps(found), flush=True)
    finally:
        await client.shutdown()


if __name__ == "__main__":
    asyncio.run(_answers(json.loads(sys.stdin.read())))
