"""How much of everything an HTTP client can send or hold. Values only: `connection`, `resource` and `events` keep to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one HTTP service. A source is a client's address.

    Bytes: `body_bytes` of one body, `bodies_bytes` of all bodies that are held for requests (one source: a quarter of them),
    `head_bytes` of a request line with its headers, `headers` in number. Connections and requests that await their answer: in all,
    and of one source; reads are refused at three quarters of `requests`, so that writes still get through.

    Seconds: `idle_s` between requests, `head_s` and `body_s` for a head and a body to arrive, however the bytes trickle; `request_s`
    until an answer is no longer awaited; `linger_s` for a refused client to read the answer; `grace_s` for what is under way at a stop.

    Streams: in all and of one source; `stream_events` and `stream_bytes` that wait for one slow reader; `heartbeat_s` between comments.
    `failed_sign_ins` a minute of one source.
    """

    body_bytes: int = 1 << 20
    bodies_bytes: int = 32 << 20
    head_bytes: int = 16_384
    headers: int = 64
    connections: int = 512
    connections_per_source: int = 128
    requests: int = 256
    requests_per_source: int = 128
    idle_s: float = 60.0
    head_s: float = 10.0
    body_s: float = 60.0
    request_s: float = 300.0
    linger_s: float = 2.0
    grace_s: float = 5.0
    streams: int = 64
    streams_per_source: int = 16
    stream_events: int = 1000
    stream_bytes: int = 1 << 20
    heartbeat_s: float = 15.0
    failed_sign_ins: int = 20
