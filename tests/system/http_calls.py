"""HTTP requests from within a place, by Python's own client: connections that are kept, answers as values."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.system.programs import START_S, Place


@dataclass(frozen=True)
class Reply:
    """What an HTTP request got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict), value
        return value


class Caller:
    """One HTTP connection from within a place, kept open while the server does. Raises `OSError` or `http.client.HTTPException`."""

    def __init__(self, place: Place, address: str, port: int, token: str = "", timeout_s: float = START_S) -> None:
        self._connection = _Connection(place, address, port, timeout_s)
        self._fields = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def request(
        self, method: str, path: str, body: bytes | str | None = None, content_type: str = "", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request and read its answer."""
        fields = {**self._fields, **({"Content-Type": content_type} if content_type else {}), **(headers or {})}
        self._connection.request(method, path, body.encode() if isinstance(body, str) else body, fields)
        answer = self._connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, place: Place, address: str, port: int, timeout_s: float) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._place = place

    def connect(self) -> None:
        """Connect within the place."""
        with self._place.entered():
            super().connect()
