"""The client's side: each exchange on a clock of its own, and client and server back to back over a bad link."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.client import Chance, Client, Item, Lease
from m2mapp.dhcpv6.client_messages import Wish
from m2mapp.dhcpv6.client_states import CLIENT, Event, Phase
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import INFINITY, Status
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.server import Terms
from tests.simulation import Simulation, seeded
from tests.unit.dhcpv6.parts import POOL, Site

_DUID, _SERVER = b"\0\4client", b"\0\4server"
_PREFIX = IPv6Network("2001:db8:5::/56")
_OTHER = IPv6Network("2001:db8:6::/56")


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


class Walk:
    """A client, the time, and all that it sent with the time of sending."""

    def __init__(self, wish: Wish | None = None, kept: Lease | None = None) -> None:
        self.now, self.sent = 1000.0, list[tuple[float, Message]]()
        numbers = iter(range(1, 10_000))
        self.client = Client(_DUID, wish or Wish(for_prefix=True, rapid_commit=False), Chance(_middle, lambda: next(numbers)))
        self.client.begin(self.now, kept)
        self._collect()

    def _collect(self) -> None:
        self.sent += [(self.now, message) for message in self.client.sends()]

    def to(self, now: float) -> None:
        """Let the time pass, waking the client when it wants to be."""
        while self.client.wake_at is not None and self.client.wake_at <= now:
            self.now = self.client.wake_at
            self.client.wake(self.now)
            self._collect()
        self.now = now

    def after(self, seconds: float) -> None:
        """So many seconds pass."""
        self.to(self.now + seconds)

    @property
    def last(self) -> Message:
        """What it sent last."""
        return self.sent[-1][1]

    def answer(self, kind: T, *options: o.Option, server: bytes = _SERVER, to: Message | None = None) -> str | None:
        """A server answers what was sent last; why that is discarded, or None."""
        asked = to or self.last
        message = Message(kind, asked.transaction_id, (o.ClientId(_DUID), o.ServerId(server), *options))
        why = self.client.received(message, self.now)
        self._collect()
        return why

    def bind(self, *, preferred_s: int = 1000, valid_s: int = 2000, t1_s: int = 0, t2_s: int = 0) -> None:
        """Go from the first Solicit to a lease."""
        self.after(0.5)
        self.answer(T.ADVERTISE, ia(preferred_s, valid_s))
        self.after(1.1)
        self.answer(T.REPLY, replace(ia(preferred_s, valid_s), t1_s=t1_s, t2_s=t2_s))

    def names(self) -> list[str]:
        """What it has."""
        return [str(item.value) for item in self.client.lease.items] if self.client.lease else []


def ia(preferred_s: int = 1000, valid_s: int = 2000, prefix: IPv6Network = _PREFIX, *more: o.Option) -> o.IaPd:
    """The client's IA with a prefix."""
    return o.IaPd(1, 0, 0, (o.IaPrefix(prefix, preferred_s, valid_s), *more))


def ia_status(status: Status) -> o.IaPd:
    """The client's IA with a status code alone."""
    return o.IaPd(1, 0, 0, (o.StatusCode(status),))


class BindingTests(SynchronousTestCase):
    def test_four_messages(self) -> None:
        """Solicit after a random delay, Request to the server that offered, with what it offered; then it has it."""
        walk = Walk(Wish(for_prefix=True, rapid_commit=False, hints=(IPv6Network("::/60"),)))
        self.assertEqual(walk.sent, [])
        walk.after(0.5)
        self.assertEqual([message.type for _, message in walk.sent], [T.SOLICIT])
        self.assertEqual(o.first(walk.last.options, o.ElapsedTime), o.ElapsedTime(0))
        self.assertEqual(o.first(walk.last.options, o.OptionRequest), o.OptionRequest((65001, 65002, 82)))
        self.assertEqual(o.first(walk.last.options, o.IaPd), ia(0, 0, IPv6Network("::/60")))
        walk.answer(T.ADVERTISE, ia())
        self.assertEqual(walk.client.phase, Phase.SOLICITING)
        walk.after(1.1)
        self.assertEqual((walk.last.type, o.first(walk.last.options, o.ServerId)), (T.REQUEST, o.ServerId(_SERVER)))
        self.assertEqual(o.first(walk.last.options, o.IaPd), ia(0, 0))
        self.assertIsNone(walk.answer(T.REPLY, ia(), o.Opaque(65001, b"coap://bs")))
        lease = walk.client.lease
        assert lease is not None
        self.assertEqual((walk.client.phase, walk.names(), lease.bootstrap), (Phase.BOUND, [str(_PREFIX)], Bootstrap("coap://bs")))
        self.assertEqual((lease.t1_s, lease.t2_s, lease.valid_until() - walk.now), (500, 800, 2000))

    def test_best_offer(self) -> None:
        """The offer with the highest preference is taken once the first time is over; one of 255 at once."""
        walk = Walk()
        walk.after(0.5)
        walk.answer(T.ADVERTISE, ia(), server=b"\0\4none")
        walk.answer(T.ADVERTISE, o.Preference(7), ia(prefix=_OTHER), server=b"\0\4seven")
        walk.after(1.1)
        self.assertEqual(o.first(walk.last.options, o.ServerId), o.ServerId(b"\0\4seven"))
        walk = Walk()
        walk.after(0.5)
        walk.answer(T.ADVERTISE, o.Preference(255), ia())
        self.assertEqual(walk.last.type, T.REQUEST)

    def test_nothing_preferred(self) -> None:
        """Where nothing is preferred any more T1 and T2, left to the client, follow from how long the prefix is valid."""
        walk = Walk()
        walk.bind(preferred_s=0)
        assert walk.client.lease is not None
        self.assertEqual((walk.client.lease.t1_s, walk.client.lease.t2_s), (1000, 1600))

    def test_late_offer(self) -> None:
        """After the first time is over the first offer that comes is taken at once; one that offers nothing never is."""
        walk = Walk()
        walk.after(2.0)
        self.assertEqual([message.type for _, message in walk.sent], [T.SOLICIT, T.SOLICIT])
        self.assertIn("offers nothing", walk.answer(T.ADVERTISE, ia_status(Status.NO_PREFIX_AVAIL)) or "")
        walk.answer(T.ADVERTISE, ia())
        self.assertEqual(walk.last.type, T.REQUEST)

    def test_rapid_commit(self) -> None:
        """With Rapid Commit the Reply to the Solicit is enough; a Reply without the option is not taken."""
        walk = Walk(Wish(for_prefix=True))
        walk.after(0.5)
        self.assertIsNotNone(o.first(walk.last.options, o.RapidCommit))
        self.assertIn("without Rapid Commit", walk.answer(T.REPLY, ia()) or "")
        walk.answer(T.REPLY, o.RapidCommit(), ia())
        self.assertEqual((walk.client.phase, len(walk.sent)), (Phase.BOUND, 1))

    def test_nobody_answers(self) -> None:
        """Solicits go on at doubling pauses, in the end at SOL_MAX_RT, which a server may change; each says how long it has been."""
        walk = Walk()
        walk.after(200)
        times = [round(at - walk.sent[0][0], 2) for at, _ in walk.sent]
        self.assertEqual(times[:4], [0, 1.05, 3.15, 7.35])
        elapsed = o.first(walk.sent[2][1].options, o.ElapsedTime)
        self.assertEqual(elapsed, o.ElapsedTime(315))
        self.assertEqual(len({message.transaction_id for _, message in walk.sent}), 1)
        walk.answer(T.ADVERTISE, ia_status(Status.NO_PREFIX_AVAIL), o.SolMaxRt(60))
        for out_of_bounds in (59, 86401):
            walk.answer(T.ADVERTISE, ia_status(Status.NO_PREFIX_AVAIL), o.SolMaxRt(out_of_bounds))
        walk.after(1000)
        late = [at for at, _ in walk.sent][-5:]
        self.assertTrue(all(59 < later - earlier < 67 for earlier, later in pairwise(late)), late)

    def test_request_is_refused(self) -> None:
        """A server that gives nothing after all, or does not answer ten times, is left: it solicits again."""
        for refuse in (True, False):
            walk = Walk()
            walk.after(0.5)
            walk.answer(T.ADVERTISE, ia())
            walk.after(1.1)
            if refuse:
                walk.answer(T.REPLY, ia_status(Status.NO_PREFIX_AVAIL))
            else:
                walk.after(300)
                self.assertEqual(sum(message.type is T.REQUEST for _, message in walk.sent), 10)
            self.assertEqual(walk.client.phase, Phase.SOLICITING)

    def test_what_is_not_taken(self) -> None:
        """Another transaction, another client, no server, times or prefixes that make no sense: nothing happens."""
        walk = Walk(Wish(for_prefix=True))
        walk.after(0.5)
        good = (o.ClientId(_DUID), o.ServerId(_SERVER), o.RapidCommit(), ia())
        bad = (
            Message(T.REPLY, 99, good),
            Message(T.REPLY, walk.last.transaction_id, (o.ClientId(b"\0\4other"), *good[1:])),
            Message(T.REPLY, walk.last.transaction_id, (good[0], *good[2:])),
            Message(T.REPLY, walk.last.transaction_id, (*good[:3], replace(ia(), iaid=2))),
            Message(T.REPLY, walk.last.transaction_id, (*good[:3], replace(ia(), t1_s=9, t2_s=8))),
            Message(T.REPLY, walk.last.transaction_id, (*good[:3], ia(2001, 2000))),
            Message(T.REPLY, walk.last.transaction_id, (*good[:3], ia(prefix=IPv6Network("ff00::/56")))),
            Message(T.REPLY, walk.last.transaction_id, (*good[:3], ia(prefix=IPv6Network("fe80::/56")))),
            Message(T.REPLY, walk.last.transaction_id, (*good, o.StatusCode(Status.UNSPEC_FAIL))),
        )
        for message in bad:
            self.assertIsNotNone(walk.client.received(message, walk.now), message)
        self.assertEqual((walk.client.phase, walk.client.lease), (Phase.SOLICITING, None))
        self.assertIsNone(walk.client.received(Message(T.REPLY, walk.last.transaction_id, good), walk.now))


class KeepingTests(SynchronousTestCase):
    def test_renew(self) -> None:
        """At T1 it renews at the server that gave; the Reply counts from when it came."""
        walk = Walk()
        walk.bind()
        begun = walk.now
        walk.to(begun + 499)
        self.assertEqual(walk.last.type, T.REQUEST)
        walk.to(begun + 500)
        self.assertEqual((walk.last.type, o.first(walk.last.options, o.ServerId)), (T.RENEW, o.ServerId(_SERVER)))
        walk.to(begun + 505)
        walk.answer(T.REPLY, ia(1000, 3000))
        lease = walk.client.lease
        assert lease is not None
        self.assertEqual((walk.client.phase, lease.valid_until()), (Phase.BOUND, begun + 505 + 3000))

    def test_rebind_and_expire(self) -> None:
        """Nobody answers: Renews until T2, Rebinds to any server until the last lifetime is over; then nothing is left, and it solicits."""
        walk = Walk()
        walk.bind()
        begun = walk.now
        walk.to(begun + 799)
        self.assertEqual({message.type for at, message in walk.sent if at > begun}, {T.RENEW})
        walk.to(begun + 1999)
        self.assertEqual((walk.last.type, o.first(walk.last.options, o.ServerId)), (T.REBIND, None))
        self.assertEqual(walk.names(), [str(_PREFIX)])
        walk.to(begun + 2000)
        self.assertEqual((walk.client.phase, walk.client.lease), (Phase.SOLICITING, None))
        rebinds = [at for at, message in walk.sent if message.type is T.REBIND]
        self.assertEqual((round(rebinds[0] - begun), rebinds[-1] < begun + 2000), (800, True))

    def test_another_server_rebinds(self) -> None:
        """A Rebind is answered by another server: the lease is that one's from then on."""
        walk = Walk()
        walk.bind()
        walk.after(800)
        walk.answer(T.REPLY, ia(), server=b"\0\4second")
        assert walk.client.lease is not None
        self.assertEqual((walk.client.phase, walk.client.lease.server), (Phase.BOUND, b"\0\4second"))

    def test_server_has_forgotten(self) -> None:
        """NoBinding to a Renew: a Request for the same, and the lease stands meanwhile."""
        walk = Walk()
        walk.bind()
        walk.after(500)
        walk.answer(T.REPLY, ia_status(Status.NO_BINDING))
        self.assertEqual((walk.last.type, walk.names()), (T.REQUEST, [str(_PREFIX)]))
        self.assertEqual(o.first(walk.last.options, o.IaPd), ia(0, 0))
        walk.answer(T.REPLY, ia())
        self.assertEqual(walk.client.phase, Phase.BOUND)

    def test_forgotten_and_silent(self) -> None:
        """NoBinding, and then silence: when the lifetime is over the lease ends, and it goes on asking at its usual times."""
        walk = Walk()
        walk.bind()
        begun = walk.now
        walk.after(500)
        walk.answer(T.REPLY, ia_status(Status.NO_BINDING))
        walk.to(begun + 5000)
        self.assertEqual((walk.client.lease, walk.client.phase), (None, Phase.SOLICITING))
        self.assertLess(len(walk.sent), 80)

    def test_renumbered(self) -> None:
        """A Reply that takes one prefix back and gives another: it has the other; one that it leaves out stands as it was."""
        walk = Walk()
        walk.bind()
        walk.after(500)
        walk.answer(T.REPLY, ia(1000, 2000, _OTHER, o.IaPrefix(_PREFIX, 0, 0)))
        self.assertEqual(walk.names(), [str(_OTHER)])
        walk.after(500)
        walk.answer(T.REPLY, ia(1000, 2000, _PREFIX))
        self.assertEqual(walk.names(), [str(_PREFIX), str(_OTHER)])

    def test_taken_back(self) -> None:
        """A Reply that gives no lifetime to all that it has: nothing is left, and it solicits."""
        walk = Walk()
        walk.bind()
        walk.after(500)
        walk.answer(T.REPLY, ia(0, 0))
        self.assertEqual((walk.client.phase, walk.client.lease), (Phase.SOLICITING, None))

    def test_without_end(self) -> None:
        """A lease without end is never asked about again."""
        walk = Walk()
        walk.bind(preferred_s=INFINITY, valid_s=INFINITY, t1_s=INFINITY, t2_s=INFINITY)
        self.assertEqual((walk.client.phase, walk.client.wake_at), (Phase.BOUND, None))

    def test_release(self) -> None:
        """It gives back what it has, four times if nobody answers, and stops; what it had is not in use meanwhile."""
        for answered in (True, False):
            walk = Walk()
            walk.bind()
            walk.client.release(walk.now)
            self.assertIsNone(walk.client.lease)
            walk.to(walk.now)
            released = walk.client.sends()
            self.assertEqual([message.type for message in released], [T.RELEASE])
            self.assertEqual(
                (o.first(released[0].options, o.ServerId), o.first(released[0].options, o.IaPd)), (o.ServerId(_SERVER), ia(0, 0))
            )
            if answered:
                walk.answer(T.REPLY, o.StatusCode(Status.SUCCESS), to=released[0])
            else:
                walk.after(60)
                self.assertEqual(sum(message.type is T.RELEASE for _, message in walk.sent), 3)
            self.assertEqual((walk.client.phase, walk.client.wake_at), (Phase.OFF, None))


class RestartTests(SynchronousTestCase):
    def kept(self, valid_s: int = 2000) -> Lease:
        """A lease of the run before."""
        return Lease(_SERVER, (Item(_PREFIX, 1000, valid_s, 1000.0),), 500, 800, 1000.0)

    def test_verified(self) -> None:
        """After a restart the lease is in use and verified by a Rebind, without waiting."""
        walk = Walk(kept=self.kept())
        self.assertEqual((walk.client.phase, walk.last.type, walk.names()), (Phase.VERIFYING, T.REBIND, [str(_PREFIX)]))
        walk.answer(T.REPLY, ia())
        self.assertEqual(walk.client.phase, Phase.BOUND)

    def test_nobody_there(self) -> None:
        """With nobody to verify it the lease stands until its lifetime is over, and it goes on asking."""
        walk = Walk(kept=self.kept())
        walk.after(11)
        self.assertEqual((walk.client.phase, walk.names()), (Phase.REBINDING, [str(_PREFIX)]))
        walk.to(3000)
        self.assertEqual((walk.client.phase, walk.names()), (Phase.SOLICITING, []))

    def test_link_was_away(self) -> None:
        """The link comes back: what it has is verified; what it had begun begins again."""
        walk = Walk()
        walk.bind()
        walk.client.begin(walk.now)
        self.assertEqual((walk.client.phase, [message.type for message in walk.client.sends()]), (Phase.VERIFYING, [T.REBIND]))

    def test_stopped(self) -> None:
        """A client that is stopped sends nothing more and wants no waking, whatever it was doing."""
        for prepare in (Walk.bind, lambda _: None, lambda walk: walk.after(0.5)):
            walk = Walk()
            prepare(walk)
            walk.client.stop(walk.now)
            self.assertEqual((walk.client.phase, walk.client.wake_at, walk.client.sends()), (Phase.OFF, None, ()))


class TableTests(SynchronousTestCase):
    def test_impossible_event(self) -> None:
        """An event that has no transition raises, and leaves the state as it was."""
        walk = Walk()
        walk.bind()
        before = (walk.client.phase, walk.client.lease, walk.client.wake_at)
        self.assertRaises(KeyError, walk.client._enter, Event.CHOSEN, walk.now)
        self.assertEqual((walk.client.phase, walk.client.lease, walk.client.wake_at), before)

    def test_every_phase_can_be_left(self) -> None:
        """Every phase is reached by the table, and can be stopped."""
        self.assertEqual({after for after in CLIENT.values()}, set(Phase))
        self.assertTrue(all((phase, Event.STOP) in CLIENT for phase in Phase))


class BackToBackTests(SynchronousTestCase):
    @seeded(2)
    def test_over_a_bad_link(self, simulation: Simulation) -> None:
        """A third of all datagrams lost, some repeated, some late: each of ten clients keeps a prefix for hours; nobody has two."""
        chance = simulation.scheduler.generator("clients")
        site = Site(Terms(prefixes=POOL))
        uniform, number = chance.uniform, lambda: chance.randrange(1 << 24)
        clients = [Client(b"\0\4c%02d" % place, Wish(for_prefix=True), Chance(uniform, number)) for place in range(10)]
        for client in clients:
            client.begin(0.0)
        under_way: list[tuple[float, int, bytes]] = []
        now = 0.0
        while now < 4 * 3600:
            times = [client.wake_at for client in clients if client.wake_at is not None] + [at for at, *_ in under_way]
            now = max(now, min(times))
            site.clock.advance(max(0.0, now - site.clock.seconds()))
            due = [one for one in under_way if one[0] <= now]
            under_way = [one for one in under_way if one[0] > now]
            for _, place, data in due:
                reply = parse(data)
                assert isinstance(reply, Message)
                clients[place].received(reply, now)
            for place, client in enumerate(clients):
                client.wake(now)
                for message in client.sends():
                    before = len(site.sent)
                    for _ in range(chance.choice((0, 1, 1, 1, 2))):
                        site.receive(message)
                    for reply, _ in site.sent[before:]:
                        if chance.random() > 0.33:
                            under_way.append((now + chance.uniform(0.001, 3.0), place, build(reply)))
            site.sent.clear()
        held = [item.value for client in clients if client.lease for item in client.lease.items]
        self.assertEqual((len(held), len(set(held)), len(site.bindings)), (10, 10, 10))
        site.service.stopService()
