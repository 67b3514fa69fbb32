"""`groups.request_tag`: what a group shows of the requests that it has had."""

from __future__ import annotations

import json
from typing import Any

from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import MethodNotAllowed, NoSuchResource
from m2mapp.model.messages import Method
from tests.unit.groups.parts import Groups
from tests.unit.groups.test_service import ServiceCase

TAG, CONTENT = "/groups/g/requestTag", "/groups/g/membersContent"


class RequestTagTests(ServiceCase):
    def shown(self, groups: Groups) -> dict[str, Any]:
        """The resource of group `g`."""
        response = self.successResultOf(groups.send(Method.GET, TAG))
        self.assertIsNone(response.etag)
        document: dict[str, Any] = json.loads(response.payload)
        return document

    def test_requests(self) -> None:
        """A write is shown with its identifier, how far it is and for how long it is known; a plain read has none."""
        groups = self.build_joined()
        groups.send(Method.GET, CONTENT)
        groups.send(Method.PUT, CONTENT + "/x", b"on", content_type="text/plain", request_id=b"12345678")
        groups.clock.advance(1.0)
        document = self.shown(groups)
        self.assertEqual((document["policy"], document["reads"]["identified"]), ("auto", False))
        expected = {"requestId": b"12345678".hex(), "method": "PUT", "path": CONTENT + "/x", "from": "node", "keptFor": 246}
        self.assertEqual(document["requests"], [{**expected, "state": "under way"}])
        groups.service.stopService()
        self.assertNotEqual(self.shown(groups)["requests"][0]["state"], "under way")

    def test_always(self) -> None:
        """With the policy "always" reads are there too; another group's are not."""
        groups = self.build_joined(settings=GroupSettings(request_id="always"))
        groups.make([], name="other")
        groups.send(Method.GET, CONTENT)
        groups.send(Method.GET, "/groups/other/membersContent")
        document = self.shown(groups)
        self.assertEqual((document["reads"]["why"], [one["path"] for one in document["requests"]]), ('request_id is "always"', [CONTENT]))

    def test_read_only(self) -> None:
        """It takes GET, of a group that is there."""
        groups = self.build_joined()
        self.failureResultOf(groups.send(Method.PUT, TAG, {}), MethodNotAllowed)
        self.failureResultOf(groups.send(Method.GET, "/groups/none/requestTag"), NoSuchResource)
