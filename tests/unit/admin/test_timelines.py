"""The timeline of a device: which steps it has, which one is missing, since when, and that each that is missing says what to do."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.timelines import Found, Heard, Mark, bootstrap_steps, timeline

GIVEN_AT, RENEWED_AT = "2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z"
LEASE = {
    "duid": "00030001000000000001",
    "iaid": 1,
    "address": "fd00::d:1",
    "state": "bound",
    "firstGivenAt": GIVEN_AT,
    "givenAt": RENEWED_AT,
    "renewed": 2,
    "interface": "eth1",
    "clientAddress": "fe80::1",
    "bootstrapURI": "coaps://bs.example.org:5684",
}
WHOLE = Found(
    name="dev-1",
    duid="00030001000000000001",
    leases=(LEASE,),
    registered_ms=1_800_003_600_000,
    seen_ms=1_800_003_700_000,
    addresses=("fd00::d:1",),
    groups={"lamps": "proven"},
    heard=(Heard("2027-01-15T10:00:00.000Z"),),
)
BARE = replace(WHOLE, registered_ms=None, groups={}, heard=())


class TimelineTests(SynchronousTestCase):
    def test_all_came(self) -> None:
        """From the address to the answer in a group, each step with its time; nothing is missing."""
        line = timeline(WHOLE)
        self.assertEqual(
            [(step.name, step.mark, step.at) for step in line.steps],
            [
                ("address given", Mark.DONE, GIVEN_AT),
                ("bootstrap address told", Mark.DONE, RENEWED_AT),
                ("registered", Mark.DONE, "2027-01-15T09:00:00.000Z"),
                ("in groups", Mark.DONE, ""),
                ("answered in a group", Mark.DONE, "2027-01-15T10:00:00.000Z"),
            ],
        )
        self.assertIn("renewed 2 times", line.steps[0].text)
        self.assertIsNone(line.missing)

    def test_what_is_missing(self) -> None:
        """Each step that did not come is the one that is missing, in its colour, and says what to do."""
        reserved = {**LEASE, "state": "reserved"}
        cases = [
            (replace(BARE, leases=(reserved,)), "address given", Mark.MISSING, "asks by DHCPv6"),
            (replace(WHOLE, leases=({**LEASE, "bootstrapURI": None},)), "bootstrap address told", Mark.MISSING, "Addresses"),
            (replace(WHOLE, report={}), "reported to the bootstrap server", Mark.WAITING, "[report]"),
            (replace(WHOLE, report={"queued": 4, "reportedAt": GIVEN_AT}), "reported to the bootstrap server", Mark.WAITING, "[report]"),
            (replace(WHOLE, report={"queued": None, "refused": "409"}), "reported to the bootstrap server", Mark.MISSING, "[report]"),
            (BARE, "registered", Mark.MISSING, "look whether it is on"),
            (replace(WHOLE, groups={"a": "joined", "b": "pending"}), "in groups", Mark.WAITING, "/mcGroups"),
            (replace(WHOLE, groups={"a": "pending", "b": "failed"}), "in groups", Mark.MISSING, "in vain"),
            (replace(WHOLE, groups={"a": "unsupported"}), "in groups", Mark.MISSING, "in vain"),
            (replace(WHOLE, heard=(Heard(GIVEN_AT, RENEWED_AT),)), "answered in a group", Mark.MISSING, "whether it is on"),
        ]
        for found, name, mark, advice in cases:
            missing = timeline(found).missing
            assert missing is not None, name
            self.assertEqual((missing.name, missing.mark), (name, mark))
            self.assertIn(advice, missing.advice)

    def test_since(self) -> None:
        """A step has been missing since it says, or since the last one before it came."""
        self.assertEqual(timeline(BARE).since, RENEWED_AT)
        self.assertEqual(timeline(replace(WHOLE, heard=(Heard("", "2027-01-15T11:00:00.000Z"),))).since, "2027-01-15T11:00:00.000Z")
        self.assertEqual(timeline(WHOLE).since, "")
        self.assertEqual(timeline(replace(BARE, leases=({**LEASE, "state": "reserved"},))).since, "")

    def test_what_is_not_expected(self) -> None:
        """An address of its own, no group, or a group that nobody has asked yet is no fault."""
        for found in (
            replace(WHOLE, leases=(), duid=""),
            replace(WHOLE, groups={}, heard=()),
            replace(WHOLE, groups={"lamps": "joined"}, heard=(Heard(),)),
            replace(WHOLE, report={"queued": None, "reportedAt": GIVEN_AT}),
        ):
            self.assertIsNone(timeline(found).missing)
        self.assertIn("not by this node: fd00::d:1", timeline(replace(WHOLE, leases=())).steps[0].text)

    def test_one_by_one(self) -> None:
        """Members that are asked one by one have no group to join; a first answer by multicast is known without a time."""
        steps = {step.name: step for step in timeline(replace(WHOLE, groups={"lamps": "one by one"})).steps}
        self.assertEqual(steps["in groups"].mark, Mark.DONE)
        self.assertEqual(timeline(replace(WHOLE, heard=())).steps[-1].text, "to its multicast address")


class BootstrapTests(SynchronousTestCase):
    def test_chain(self) -> None:
        """The steps as a bootstrap server tells them: those that came, the one that is missing, those that may still come."""
        chain = [
            {"step": "address given", "at": GIVEN_AT},
            {"step": "reported", "at": RENEWED_AT, "ended": RENEWED_AT},
            {"step": "bootstrap requested", "at": None},
            {"step": "bootstrapped", "at": None},
        ]
        steps = bootstrap_steps(chain, {"step": "bootstrap requested", "do": "look whether it is on"})
        self.assertEqual([step.mark for step in steps], [Mark.DONE, Mark.DONE, Mark.MISSING, Mark.OPEN])
        self.assertIn("until", steps[1].text)
        self.assertEqual(steps[2].advice, "look whether it is on")
        self.assertEqual(bootstrap_steps(None, None), ())
