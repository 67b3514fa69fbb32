"""This program's client of `coaps` as a process of its own.

    python -m tests.system.coaps_child '{"ca": FILE, "shows": [CERTIFICATE, KEY], "pin": FILE, "observe_s": 3,
                                         "calls": [[METHOD, URI, PAYLOAD], ...]}'

Each call is made after the one before; with `observe_s` GETs observe for so long. Each answer, or fault, is a JSON line. Responsible for
saying what comes. Not responsible for what is expected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from m2mapp.coap.dtls.credentials import Identity, load_certificates, load_chain, load_key
from m2mapp.coap.dtls.settings import CoapsSettings
from m2mapp.coap.service import CoapService, make_context
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.net.udp import SystemDatagrams
from tests.system.own_calls import Nobody


def say(told: Answer | Fault) -> None:
    """One JSON line."""
    shown = {"fault": told.detail} if isinstance(told, Fault) else {"code": told.code, "payload": told.payload.decode("latin-1")}
    print(json.dumps(shown), flush=True)


@inlineCallbacks
def calls(wanted: Mapping[str, Any], service: CoapService, reactor: Any) -> Generator[Deferred[Any], Any, None]:  # noqa: ANN401 - Twisted's
    """Make the calls, one after the other, and end the program."""
    pin = load_certificates(wanted["pin"])[0].public_bytes(Encoding.DER) if "pin" in wanted else None
    for method, uri, payload in wanted["calls"]:
        outgoing = Outgoing(Method(method), uri, payload.encode(), "text/plain" if payload else None, certificate=pin)
        if "observe_s" in wanted:
            observation = service.client.observe(outgoing, None, say, say)
            yield deferLater(reactor, wanted["observe_s"])
            observation.cancel()
            yield deferLater(reactor, 0.5)
            continue
        try:
            say((yield service.client.request(outgoing)))
        except Fault as fault:
            say(fault)
    yield service.stopService()
    reactor.stop()


def main(wanted: Mapping[str, Any]) -> None:
    """Run the calls."""
    from twisted.internet import reactor  # installed here, as the program's own wiring does

    metrics, nobody = Metrics(), Nobody()
    service = CoapService((("::", 0),), (), SystemDatagrams(reactor, metrics), nobody, nobody, make_context(reactor, metrics))
    identity = Identity(load_chain(wanted["shows"][0]), load_key(wanted["shows"][1])) if "shows" in wanted else None
    service.secure(CoapsSettings((), identity, (), load_certificates(wanted["ca"]) if "ca" in wanted else ()))
    service.startService()

    def failed(failure: Failure) -> None:
        failure.printTraceback()
        reactor.stop()

    calls(wanted, service, reactor).addErrback(failed)
    reactor.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
