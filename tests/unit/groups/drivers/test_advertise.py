"""Telling the devices: who is told what, when again, and what is left when it stops."""

from __future__ import annotations

import json
from typing import Any

from m2mapp.formats.documents import CBOR, dump_cbor, rfc3339
from m2mapp.groups.advertisement import FAILED_AFTER
from m2mapp.groups.drivers.advertise import AT_ONCE
from m2mapp.groups.drivers.sweep import EVERY_S, GIVE_UP_S, ROUND
from m2mapp.groups.group import Join
from m2mapp.groups.leaves import leave_of
from m2mapp.groups.service import GroupService
from m2mapp.model.errors import DeadlinePassed, PeerFailed
from m2mapp.model.messages import Answer, Method
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import Remove, Unit, Write
from tests.unit.fakes import START_MS
from tests.unit.groups.parts import FIRST_ADDRESS, SECOND_ADDRESS, GroupCase, Groups, told_document, uri_at

NAME = "g1.example.org-g-1"


def join(number: int) -> str:
    """The request that tells device d<number> to join the first set."""
    return f"PUT coap://[fd00::d{number}]/mcGroups/{NAME}"


def leave(number: int) -> str:
    """The request that tells it to leave."""
    return f"DELETE coap://[fd00::d{number}]/mcGroups/{NAME}"


def joins(groups: Groups) -> list[str]:
    """The joins of the first set, in the order of its members."""
    [one, *_] = groups.sets()
    return [one.joins[uri].value for uri in one.members]


class JoinTests(GroupCase):
    def test_each_device_is_told(self) -> None:
        """Each device is told the address, the fan-out URI, its own members and the leisure; when it confirms it is joined."""
        groups = self.build(2)
        self.successResultOf(groups.make([uri_at(1), uri_at(2)], leisure=0.25))
        self.assertEqual(groups.told(), [join(1), join(2)])
        expected = {"mcAddress": FIRST_ADDRESS, "fanoutURI": "/t", "memberList": ["/t"], "leisure": 0.25}
        self.assertEqual(told_document(groups.requester.sent[1]), expected)
        groups.requester.answer(0, Answer("2.01"))
        groups.clock.advance(0.2)
        self.assertEqual(joins(groups), ["joined", "pending"])
        groups.join_all()
        self.assertEqual(joins(groups), ["joined", "joined"])
        self.assertEqual(len(groups.requester.sent), 2)

    def test_devices_that_share_an_address(self) -> None:
        """Of devices at one address each is told of its own member, the one at its port, by its own name."""
        groups = self.build()
        for number in (1, 2, 3, 4):
            groups.register(number, addresses=["192.0.2.1" if number % 2 else "192.0.2.2"], port=5001 + number // 3)
        groups.make([f"coap://192.0.2.{host}:{port}/t" for host in (1, 2) for port in (5001, 5002)])
        self.assertEqual(
            sorted((sent.uri.partition("/mcGroups")[0], str(told_document(sent)).count("/t")) for sent in groups.requester.sent),
            [(f"coap://192.0.2.{host}:{port}", 2) for host in (1, 2) for port in (5001, 5002)],
        )
        groups.join_all()
        self.assertEqual([set(one.joins.values()) for one in groups.sets()], [{Join.JOINED}, {Join.JOINED}])

    def test_bounded(self) -> None:
        """So many are told at a time and no more; each confirmation tells the next. All are joined in the end."""
        groups = self.build(100)
        groups.make([uri_at(number) for number in range(1, 101)])
        self.assertEqual(len(groups.requester.waiting), AT_ONCE)
        groups.requester.answer(0, Answer("2.04"))
        self.assertEqual(len(groups.requester.waiting), AT_ONCE)
        while groups.requester.waiting:
            groups.join_all()
        self.assertEqual(set(joins(groups)), {"joined"})

    def test_answers_at_once(self) -> None:
        """Devices that answer within the call are told one after another, hundreds of them without a deep recursion."""
        groups = self.build(500)
        groups.requester._reply = lambda _: Answer("2.04")
        groups.make([uri_at(number) for number in range(1, 501)])
        groups.clock.advance(1.0)
        self.assertEqual(set(joins(groups)), {"joined"})

    def test_silence(self) -> None:
        """A silent device is told again after growing pauses; it is shown as failed after five attempts, and told all the same."""
        groups = self.build(2)
        groups.requester._reply = lambda _: DeadlinePassed("silent")
        groups.make([uri_at(1), uri_at(2)])
        counts, shown = [], []
        for pause in (0.9, 0.2, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
            groups.clock.advance(pause)
            counts.append(len(groups.requester.sent) // 2)
            shown.append(joins(groups)[0])
        self.assertEqual(counts, [1, 2, 3, 4, FAILED_AFTER, 6, 7, 8, 9])
        self.assertEqual(shown[:4] + shown[5:6], ["pending"] * 4 + ["failed"])
        groups.requester._reply = lambda _: Answer("2.04")
        groups.clock.advance(60.0)
        groups.clock.advance(1.0)
        self.assertEqual(joins(groups), ["joined", "joined"])

    def test_a_device_that_knows_no_groups(self) -> None:
        """It is unsupported, not asked again, and asked by unicast from then on; when it registers anew it is told once more."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.requester.answer(0, Answer("4.04"))
        groups.requester.answer(1, Answer("2.04"))
        groups.clock.advance(600.0)
        self.assertEqual((joins(groups), len(groups.requester.sent)), (["unsupported", "joined"], 2))
        groups.register(1, lifetime=60)
        self.assertEqual(groups.told()[2:], [join(1)])

    def test_a_refusal_is_shown_and_tried_again(self) -> None:
        """A device that cannot join now says why and is told again."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.requester.answer(0, Answer("5.03"))
        groups.clock.advance(0.5)
        self.assertEqual(joins(groups)[0], "failed")
        groups.clock.advance(0.5)
        self.assertEqual(groups.told()[2:], [join(1)])

    def test_fixed_groups_are_told_nothing(self) -> None:
        """A device that cannot change its groups is never told, neither to join nor to leave, however often it registers."""
        groups = self.build()
        for number in (1, 2):
            groups.register(number, fixedGroups=["ff05::77"])
        groups.make([uri_at(1), uri_at(2)])
        groups.register(1, fixedGroups=["ff05::77"], lifetime=60)
        self.assertEqual(joins(groups), ["joined", "joined"])
        groups.send(Method.DELETE, "/groups/g")
        self.assertEqual(groups.requester.sent, [])


class BackTests(GroupCase):
    def test_registers_again(self) -> None:
        """A device that registers, also with the same words, is told of its groups again: it may have started anew."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.register(1)
        self.assertEqual(groups.told()[2:], [join(1)])

    def test_a_new_address(self) -> None:
        """A device that comes back at another address is told there."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.register(1, addresses=["fd00::e1"])
        self.assertEqual(groups.told()[2:], [f"PUT coap://[fd00::e1]/mcGroups/{NAME}"])

    def test_back_during_a_pause(self) -> None:
        """A device that was silent and registers is told at once, not when the pause is over."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.requester.answer(0, PeerFailed("away"))
        groups.register(1)
        self.assertEqual(groups.told()[2:], [join(1)])
        groups.requester.answer(2, Answer("2.04"))
        groups.clock.advance(600.0)
        self.assertEqual(len(groups.requester.sent), 3)

    def test_unregistered_while_it_waits(self) -> None:
        """A device whose registration ends is not asked any more; its member is asked by unicast."""
        groups = self.build(3)
        groups.make([uri_at(number) for number in (1, 2, 3)])
        groups.requester.answer(0, PeerFailed("away"))
        groups.deregister(1)
        groups.clock.advance(600.0)
        self.assertEqual([told for told in groups.told() if "d1" in told], [join(1)])
        self.assertEqual([one.members for one in groups.sets()], [(uri_at(2), uri_at(3)), (uri_at(1),)])


class LeaveTests(GroupCase):
    def build_joined(self, devices: int = 3) -> Groups:
        """A group of so many, all joined."""
        groups = self.build(devices)
        groups.make([uri_at(number) for number in range(1, devices + 1)])
        groups.join_all()
        groups.requester.sent.clear()
        return groups

    def test_a_deleted_group(self) -> None:
        """Every device is told to leave, and again until it answers."""
        groups = self.build_joined(2)
        self.successResultOf(groups.send(Method.DELETE, "/groups/g"))
        self.assertEqual(groups.told(), [leave(1), leave(2)])
        for place in groups.requester.waiting:
            groups.requester.answer(place, Answer("2.02"))
        groups.clock.advance(600.0)
        self.assertEqual(len(groups.requester.sent), 2)

    def test_a_member_less(self) -> None:
        """Only the device that is no member any more is told."""
        groups = self.build_joined()
        self.successResultOf(groups.send(Method.DELETE, "/groups/g/members", query=(("uri", uri_at(2)),)))
        self.assertEqual(groups.told(), [leave(2)])
        self.assertEqual(joins(groups), ["joined", "joined"])

    def test_a_set_that_becomes_rows(self) -> None:
        """When a set falls below the threshold its devices leave the address."""
        groups = self.build_joined(2)
        groups.send(Method.DELETE, "/groups/g/members", query=(("uri", uri_at(2)),))
        self.assertEqual(sorted(groups.told()), [leave(1), leave(2)])

    def test_away_when_it_had_to_leave(self) -> None:
        """A device that does not answer is told again and again, and at once when it registers; one that is not registered is told then."""
        groups = self.build_joined(3)
        groups.deregister(3)
        groups.clock.advance(1.0)
        groups.requester._reply = lambda _: DeadlinePassed("silent")
        groups.send(Method.DELETE, "/groups/g")
        groups.clock.pump([1.0] * 120)
        sent = groups.told()
        self.assertEqual([sent.count(leave(number)) for number in (1, 2, 3)], [7, 7, 0])
        groups.requester._reply = lambda _: Answer("2.02")
        groups.requester.sent.clear()
        for number in (1, 3):
            groups.register(number)
            groups.clock.advance(1.0)
            groups.register(number)
        self.assertEqual(groups.told(), [leave(1), leave(3)])

    def test_what_is_owed_is_in_the_tree(self) -> None:
        """The edit that ends a group commits with it who has to leave; who has confirmed is crossed out, the last one with the record."""
        groups = self.build_joined(2)
        groups.send(Method.DELETE, "/groups/g")
        unit = groups.built.committer.units[-1]
        [record] = [change for change in unit.changes if isinstance(change, Write)]
        self.assertEqual((record.path, record.attributes["fanoutAddress"]), (("leaves", f"g-1-{FIRST_ADDRESS}"), FIRST_ADDRESS))
        self.assertEqual(list(leave_of(groups.built.tree.get(record.path)).members), [uri_at(1), uri_at(2)])
        groups.requester.answer(groups.requester.waiting[0], Answer("2.02"))
        groups.clock.advance(1.0)
        self.assertEqual(list(leave_of(groups.built.tree.get(record.path)).members), [uri_at(2)])
        groups.join_all()
        self.assertEqual(groups.built.tree.children(("leaves",)), [])

    def test_a_new_program_tells_what_is_owed(self) -> None:
        """A service that is made of what is on disk tells those who have not confirmed that they left, and nobody else."""
        groups = self.build_joined(3)
        groups.deregister(3)
        groups.send(Method.DELETE, "/groups/g")
        groups.requester.answer(groups.requester.waiting[0], Answer("2.02"))
        groups.clock.advance(1.0)
        groups.service.stopService()
        groups.requester.sent.clear()
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        self.assertEqual(groups.told(), [leave(2)])
        groups.register(3)
        self.assertEqual(groups.told(), [leave(2), leave(3)])
        groups.join_all()
        self.assertEqual(groups.built.tree.children(("leaves",)), [])

    def test_a_group_made_again_before_its_devices_left(self) -> None:
        """A leave that is not confirmed when the group is there again is replaced by the join; what is left of it is crossed out."""
        groups = self.build_joined(2)
        groups.send(Method.DELETE, "/groups/g")
        groups.make([uri_at(1), uri_at(2)])
        for _ in range(3):
            groups.join_all()
        self.assertEqual(groups.told(), [leave(1), leave(2), join(1), join(2)])
        self.assertEqual((joins(groups), groups.built.tree.children(("leaves",))), (["joined", "joined"], []))

    def test_a_leave_that_comes_again_before_the_first_is_crossed_out(self) -> None:
        """A member that left, came back and goes again is told again: a confirmation of the first leave does not count for the second."""
        groups = self.build_joined(3)
        gone, back = (("uri", uri_at(1)),), {"members": [uri_at(1)]}
        groups.send(Method.DELETE, "/groups/g/members", query=gone)
        groups.requester.answer(groups.requester.waiting[0], Answer("2.02"))
        groups.send(Method.POST, "/groups/g/members", back)
        groups.requester.answer(groups.requester.waiting[0], Answer("2.01"))
        groups.send(Method.DELETE, "/groups/g/members", query=gone)
        groups.clock.advance(1.0)
        self.assertEqual(groups.told(), [leave(1), join(1), leave(1)])
        self.assertEqual(len(groups.built.tree.children(("leaves",))), 1)
        groups.join_all()
        self.assertEqual(groups.built.tree.children(("leaves",)), [])

    def test_members_that_change_while_a_device_is_being_told(self) -> None:
        """What is under way is not overtaken: the device is told the newest state when it has answered the older one."""
        groups = self.build(3)
        groups.make([uri_at(number) for number in (1, 2, 3)])
        groups.send(Method.DELETE, "/groups/g/members", query=(("uri", uri_at(1)),))
        self.assertEqual(groups.told(), [join(1), join(2), join(3)])
        groups.requester.answer(0, Answer("2.04"))
        self.assertEqual(groups.told()[3:], [leave(1)])

    def test_an_old_confirmation_for_a_new_group(self) -> None:
        """A group made anew under the same name, at another address: the late confirmation of the old one makes nobody joined."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.send(Method.DELETE, "/groups/g")
        groups.make([uri_at(1), uri_at(2)])
        self.assertEqual(groups.sets()[0].address, SECOND_ADDRESS)
        for place in list(groups.requester.waiting):
            groups.requester.answer(place, Answer("2.04"))
        groups.clock.advance(0.2)
        self.assertEqual(joins(groups), ["pending", "pending"])
        groups.join_all()
        self.assertEqual(joins(groups), ["joined", "joined"])
        self.assertEqual({str(told_document(sent)).count(SECOND_ADDRESS) for sent in groups.requester.sent[2:]}, {1})


class StopTests(GroupCase):
    def test_stop(self) -> None:
        """A stop cancels what is under way and what waits; nothing is logged and nothing is pending."""
        groups = self.build(40)
        groups.make([uri_at(number) for number in range(1, 41)])
        groups.requester.answer(0, PeerFailed("away"))
        groups.service.stopService()
        self.assertEqual((groups.clock.getDelayedCalls(), groups.requester.waiting), ([], []))
        groups.service.startService()

    def test_goes_on_after_a_start(self) -> None:
        """Who had not confirmed before the stop is told after the start, and nobody else."""
        groups = self.build(3)
        groups.make([uri_at(number) for number in (1, 2, 3)])
        groups.requester.answer(1, Answer("2.04"))
        groups.clock.advance(1.0)
        groups.service.stopService()
        groups.requester.sent.clear()
        groups.service.startService()
        self.assertEqual(groups.told(), [join(1), join(3)])

    def test_a_new_program_goes_on(self) -> None:
        """So does a service that is made of what is on disk."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.service.stopService()
        groups.requester.sent.clear()
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        self.assertEqual(groups.told(), [join(1), join(2)])
        self.assertEqual(groups.sets()[0].joins[uri_at(1)], Join.PENDING)
        groups.send(Method.DELETE, "/groups/g")
        self.assertEqual(groups.sets(), [])


class ShownTests(GroupCase):
    def shown_set(self, groups: Groups) -> dict[str, Any]:
        """The first set as it is shown."""
        found = json.loads(self.successResultOf(groups.send(Method.GET, "/groups/g/fanoutSets/1")).payload)
        assert isinstance(found, dict)
        return found

    def test_why_a_join_failed(self) -> None:
        """A set shows whose join failed, why, and when it is tried next; not any more when it is joined. It does not count for the ETag."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        tags = {self.successResultOf(groups.send(Method.GET, "/groups/g")).etag}
        groups.requester.answer(0, Answer("5.03", b"no memory"))
        groups.requester.answer(1, PeerFailed("away"))
        shown = self.shown_set(groups)["failures"]
        self.assertEqual(shown[uri_at(1)], {"why": "answered 5.03: no memory", "next": rfc3339(START_MS + 1000)})
        self.assertEqual(shown[uri_at(2)]["why"], "no answer")
        tags.add(self.successResultOf(groups.send(Method.GET, "/groups/g")).etag)
        self.assertEqual(len(tags), 1)
        groups.clock.advance(1.0)
        groups.join_all()
        self.assertEqual((joins(groups), "failures" in self.shown_set(groups)), (["joined", "joined"], False))


class HeldTests(GroupCase):
    def shows(self, groups: Groups, **kept: dict[str, object]) -> None:
        """Every device shows these mcGroups from now on."""
        children = [{"name": name, **document} for name, document in kept.items()]
        groups.requester.shows = lambda _: Answer("2.05", dump_cbor({"children": children}), CBOR)

    def test_told_only_what_it_does_not_hold(self) -> None:
        """A device that registers and shows that it holds the group as it shall is told nothing, and is joined."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        for place in groups.requester.waiting:
            groups.requester.answer(place, PeerFailed("away"))
        document = {"mcAddress": FIRST_ADDRESS, "fanoutURI": "/t", "memberList": ["/t"], "leisure": groups.sets()[0].leisure_s}
        self.shows(groups, **{NAME: document})
        groups.register(1)
        groups.clock.advance(0.5)
        self.assertEqual((joins(groups), len(groups.requester.sent)), (["joined", "pending"], 2))
        groups.clock.advance(0.5)
        self.assertEqual(groups.told()[2:], [join(2)])
        self.shows(groups, **{NAME: {**document, "memberList": ["/other"]}})
        groups.register(1)
        self.assertEqual(groups.told()[3:], [join(1)])

    def test_proven_stays_proven(self) -> None:
        """That a device holds what it shall is no news of one that has shown more."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.service._book.note(("g", "1", FIRST_ADDRESS), [uri_at(1)], Join.PROVEN)
        groups.clock.advance(1.0)
        leisure = groups.sets()[0].leisure_s
        self.shows(groups, **{NAME: {"mcAddress": FIRST_ADDRESS, "fanoutURI": "/t", "memberList": ["/t"], "leisure": leisure}})
        groups.register(1)
        groups.clock.advance(1.0)
        self.assertEqual(joins(groups), ["proven", "joined"])

    def test_once_a_day(self) -> None:
        """Every device that takes multicast is asked what it holds once a day, and no other."""
        groups = self.build(3)
        groups.register(4, multicastEnabled=False)
        groups.register(5, fixedGroups=["ff05::77"])
        groups.requester.checked.clear()
        groups.clock.pump([EVERY_S] * ROUND)
        expected = [f"coap://[fd00::d{number}]/mcGroups?limit=1000" for number in (1, 2, 3)]
        self.assertEqual(sorted(set(groups.requester.checked)), expected)
        self.assertLess(len(groups.requester.checked), 3 * ROUND)

    def test_gone_for_good(self) -> None:
        """What a device owes that has not been registered for a week is forgotten; one that is registered is not given up."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.deregister(2)
        groups.requester._reply = lambda _: PeerFailed("away")
        groups.send(Method.DELETE, "/groups/g")
        [record] = groups.built.tree.children(("leaves",))
        groups.clock.pump([EVERY_S] * int(GIVE_UP_S / EVERY_S))
        self.assertEqual(list(leave_of(groups.built.tree.get(record.path)).members), [uri_at(1), uri_at(2)])
        groups.clock.pump([EVERY_S] * 2)
        self.assertEqual(list(leave_of(groups.built.tree.get(record.path)).members), [uri_at(1)])

    def test_a_device_that_cannot_leave(self) -> None:
        """A device that comes back and cannot change its groups owes nothing any more."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.requester._reply = lambda _: PeerFailed("away")
        groups.send(Method.DELETE, "/groups/g")
        for number in (1, 2):
            groups.register(number, fixedGroups=["ff05::77"])
        groups.clock.advance(1.0)
        self.assertEqual(groups.built.tree.children(("leaves",)), [])

    def test_given_up_by_hand(self) -> None:
        """Who deletes the record says that the devices are not to be told any more."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.join_all()
        groups.requester._reply = lambda _: PeerFailed("away")
        groups.send(Method.DELETE, "/groups/g")
        groups.built.committer.commit(Unit((Remove(groups.built.tree.children(("leaves",))[0].path),)))
        sent = len(groups.requester.sent)
        groups.clock.pump([100.0] * 10)
        self.assertEqual(len(groups.requester.sent), sent)
