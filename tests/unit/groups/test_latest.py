"""What is known of members: last heard, last value, fresh or not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.latest import LARGEST_VALUE, Latest
from m2mapp.groups.results import GroupResults, MemberResult

T0, AT0 = "2027-01-15T08:00:00.000Z", 1_800_000_000_000
URI = "coap://d1/t"


def note(latest: Latest, result: MemberResult | None, at: int = 0, *, values: bool = True) -> None:
    """A group request that began so many seconds after the beginning, and what the member answered; None: it was silent."""
    members = {} if result is None else {URI: result}
    results = GroupResults("g", b"12345678", "", members, () if members else (URI,), 1, 1, 20.0)
    latest.note(results, AT0 + at * 1000, float(at), values=values)


def content(
    payload: bytes = b"21.5", media_type: str | None = "text/plain", status: str = "2.05", max_age_s: int | None = None
) -> MemberResult:
    """What the member answers at once."""
    return MemberResult(status, payload, media_type, "multicast", 0.0, max_age_s)


class LatestTests(SynchronousTestCase):
    def shown(self, latest: Latest, now_s: float = 1.0) -> dict[str, object]:
        """The member as it is shown."""
        return latest.of(URI).document(now_s)

    def test_a_read(self) -> None:
        """A member that answered a read: when, how, what, and that it is fresh for as long as it said, or a minute."""
        latest = Latest()
        note(latest, content())
        value = {"contentType": "text/plain", "content": "21.5", "at": T0, "maxAge": 60, "fresh": True}
        whole = {"lastHeard": T0, "status": "2.05", "via": "multicast", "silentSince": None, "value": value}
        self.assertEqual(self.shown(latest), whole)
        self.assertEqual(self.shown(latest, 61.0)["value"], {**value, "fresh": False})
        note(latest, content(max_age_s=5))
        self.assertEqual([self.shown(latest, now_s)["value"]["fresh"] for now_s in (5.0, 6.0)], [True, False])  # type: ignore[index]

    def test_silence(self) -> None:
        """A silent member keeps what it said; since when it is silent is told until it is heard."""
        latest = Latest()
        note(latest, content())
        for at in (10, 20):
            note(latest, None, at)
        shown = self.shown(latest)
        self.assertEqual((shown["lastHeard"], shown["silentSince"]), (T0, "2027-01-15T08:00:10.000Z"))
        self.assertIsNotNone(shown["value"])
        note(latest, content(), 30)
        self.assertIsNone(self.shown(latest)["silentSince"])

    def test_other_answers(self) -> None:
        """An error, and the answer to a write or at a suffix, say that the member was heard and leave its value."""
        latest = Latest()
        note(latest, content())
        note(latest, content(b"gone", status="4.04"), 10)
        note(latest, content(b"other"), 20, values=False)
        shown = self.shown(latest)
        self.assertEqual(shown["lastHeard"], "2027-01-15T08:00:20.000Z")
        self.assertEqual((shown["value"]["content"], shown["value"]["at"]), ("21.5", T0))  # type: ignore[index]

    def test_bounds(self) -> None:
        """So many members are known, those that were asked last; a large content is only told to be large."""
        latest = Latest(most=10)
        for number in range(20):
            one = {f"coap://d{number}/t": content()}
            latest.note(GroupResults("g", b"12345678", "", one, (), 1, 1, 1.0), AT0, 0.0, values=True)
        self.assertEqual((len(latest), latest.of("coap://d9/t").heard_ms, latest.of("coap://d19/t").heard_ms), (10, None, AT0))
        note(latest, content(b"x" * (LARGEST_VALUE + 1)))
        self.assertEqual(self.shown(latest)["value"]["content"], "257 bytes")  # type: ignore[index]

    def test_after_a_restart(self) -> None:
        """Records tell of members what nothing newer does: last heard, last value, which is not fresh any more, and since when silent."""
        latest = Latest()
        latest.restore(AT0 + 2000, {"statuses": {}, "silent": [URI]})
        latest.restore(AT0 + 1000, {"statuses": {}, "silent": [URI]})
        latest.restore(AT0, {"statuses": {URI: "2.05"}, "values": {URI: "21.5"}, "silent": []})
        latest.restore(AT0 - 1000, {"statuses": {URI: "5.00"}, "values": {URI: "7"}, "silent": []})
        shown = self.shown(latest)
        self.assertEqual((shown["lastHeard"], shown["status"], shown["silentSince"]), (T0, "2.05", "2027-01-15T08:00:01.000Z"))
        self.assertEqual((shown["value"]["content"], shown["value"]["fresh"]), ("21.5", False))  # type: ignore[index]
        note(latest, content(b"22"), 10)
        latest.restore(AT0, {"statuses": {URI: "2.05"}, "values": {URI: "21.5"}})
        self.assertEqual(self.shown(latest)["value"]["content"], "22")  # type: ignore[index]

    def test_other_records(self) -> None:
        """A record that has another shape tells nothing."""
        latest = Latest()
        for body in ({}, {"statuses": 5, "values": [], "silent": 3}):
            latest.restore(AT0, body)
        self.assertEqual(len(latest), 0)
