"""A device that takes its groups by another way than `mcGroup`s over CoAP, made of aiocoap: a process of its own.

    python -m tests.system.group_child coap-group ADDRESS INTERFACE     memberships at /coap-group (RFC 7390, section 2.6)
    python -m tests.system.group_child http ADDRESS INTERFACE           mcGroups at http://[ADDRESS]:8081/mcGroups/<name>

Either serves `/temperature` at the address and at the multicast addresses that it is in, which a GET of `/joined` lists.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiocoap
import aiocoap.resource

HTTP_PORT = 8081
_COAP_GROUP_JSON = 256


class Memberships:
    """The multicast addresses that the device is in, by index or name."""

    def __init__(self, interface: str) -> None:
        self._interface = socket.if_nametoindex(interface)
        # Of a socket that is bound to no address the kernel gives every datagram to a group that any socket of the host has joined.
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.kept: dict[str, dict[str, str]] = {}

    def set(self, index: str, entry: dict[str, str], address: str) -> None:
        """Be in this group from now on."""
        self.drop(index)
        self.kept[index] = {**entry, "_": address}
        self._option(socket.IPV6_JOIN_GROUP, address)

    def drop(self, index: str) -> bool:
        """Be in it no longer; whether it was."""
        entry = self.kept.pop(index, None)
        if entry is None:
            return False
        self._option(socket.IPV6_LEAVE_GROUP, entry["_"])
        return True

    def shown(self) -> dict[str, dict[str, str]]:
        """The memberships as they were given."""
        return {index: {key: value for key, value in entry.items() if key != "_"} for index, entry in self.kept.items()}

    def _option(self, option: int, address: str) -> None:
        self._socket.setsockopt(
            socket.IPPROTO_IPV6, option, socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", self._interface)
        )


class _CoapGroup(aiocoap.resource.Resource):  # type: ignore[misc]  # aiocoap is not typed
    """All memberships."""

    def __init__(self, memberships: Memberships) -> None:
        super().__init__()
        self._memberships, self._next = memberships, 1

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=json.dumps(self._memberships.shown()).encode(), content_format=_COAP_GROUP_JSON)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        entry = json.loads(request.payload)
        index, self._next = str(self._next), self._next + 1
        self._memberships.set(index, entry, str(entry["a"]).strip("[]"))
        return aiocoap.Message(code=aiocoap.CREATED, location_path=("coap-group", index))


class _Membership(aiocoap.resource.Resource, aiocoap.resource.PathCapable):  # type: ignore[misc]  # as above
    """One of them, by its index."""

    def __init__(self, memberships: Memberships) -> None:
        super().__init__()
        self._memberships = memberships

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        gone = self._memberships.drop("/".join(request.opt.uri_path))
        return aiocoap.Message(code=aiocoap.DELETED if gone else aiocoap.NOT_FOUND)


class _Text(aiocoap.resource.Resource):  # type: ignore[misc]  # as above
    def __init__(self, memberships: Memberships | None) -> None:
        super().__init__()
        self._memberships = memberships

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        if self._memberships is None:
            return aiocoap.Message(payload=b"7.5", content_format=0)
        return aiocoap.Message(payload=json.dumps(self._memberships.shown()).encode(), content_format=50)


def _serve_http(address: str, memberships: Memberships) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            memberships.set(self.path.rpartition("/")[2], {"path": document["fanoutURI"]}, document["mcAddress"])
            self._answer(201)

        def do_DELETE(self) -> None:
            self._answer(204 if memberships.drop(self.path.rpartition("/")[2]) else 404)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(HTTPServer):
        address_family = socket.AF_INET6

    threading.Thread(target=Server((address, HTTP_PORT), Handler).serve_forever, daemon=True).start()


async def _serve(kind: str, address: str, interface: str) -> None:
    memberships = Memberships(interface)
    site = aiocoap.resource.Site()
    site.add_resource(("temperature",), _Text(None))
    site.add_resource(("joined",), _Text(memberships))
    if kind == "coap-group":
        site.add_resource(("coap-group",), _CoapGroup(memberships))
        site.add_resource(("coap-group",), _Membership(memberships))
    else:
        _serve_http(address, memberships)
    await aiocoap.Context.create_server_context(site, bind=("::", 5683))
    print("up", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:4]))
