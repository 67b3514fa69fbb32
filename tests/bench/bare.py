"""The least that twisted.web can be asked for: `python -m tests.bench.bare PORT` answers 21.5 to everything."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class Bare(Resource):
    """One resource with one content."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """The content."""
        request.setHeader(b"Content-Type", b"text/plain")
        return b"21.5"


if __name__ == "__main__":
    reactor.listenTCP(int(sys.argv[1]), Site(Bare()), interface="127.0.0.1")  # type: ignore[arg-type]
    reactor.callWhenRunning(print, "ready", flush=True)
    reactor.run()
