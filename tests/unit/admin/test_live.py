"""What keeps pages true: the event stream of a browser, notices that are done when their effect was seen, samples for plots, health."""

from __future__ import annotations

import json
import re

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.files import Files
from m2mapp.admin.health import Grade, health
from m2mapp.admin.live import BEAT_S, EVERY_S
from m2mapp.admin.notices import Notices, State
from m2mapp.admin.rendering import duration, size
from m2mapp.admin.samples import STEP_S, Samples, Series
from m2mapp.admin.visit import Asked, NotSeen, Visit
from m2mapp.model.errors import StorageFull
from m2mapp.model.messages import Method
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import Resource, Unit, Write
from tests.unit.admin.harness import Visitor
from tests.unit.admin.test_site import SiteCase
from tests.unit.fakes import answer_of, ask
from tests.unit.http.harness import SCOPED, VIEWER, Client


class LiveCase(SiteCase):
    def put(self, path: str, content: bytes = b"1") -> None:
        """A write past the pages."""
        answer_of(self.house.built, ask(Method.PUT, path, content, "text/plain"))

    def open(self, visitor: Visitor) -> Client:
        """An event stream, after its first event."""
        client = visitor.stream()
        self.addCleanup(client.leave)
        client.received()
        return client


class StreamTests(LiveCase):
    def topics(self, client: Client) -> list[str]:
        """What has changed, as the browser was told since the last look."""
        self.house.clock.advance(EVERY_S)
        return [topic for kind, data in self.events(client) if kind == "changed" for topic in json.loads(data)]

    def events(self, client: Client) -> list[tuple[str, str]]:
        """Kind and data of the events since the last look."""
        return re.findall(r"event: (\S+)\ndata: (.*)\n", client.received().decode())

    def tearDown(self) -> None:
        self.doCleanups()
        super().tearDown()

    def test_missed(self) -> None:
        """A page made before a change bears a smaller stamp than the stream then tells, opened before or after; one made since does not."""
        visitor = self.house.signed_in()
        stamp = re.compile(rb'data-stamp="(\d+)"|"stamp":(\d+)|^id: (\d+)', re.MULTILINE)

        def told(data: bytes) -> int:
            return max(int(number) for found in stamp.findall(data) for number in found if number)

        for change in (lambda: self.put("/a"), lambda: self.house.admin.site.doors.live.touch("topic")):
            client = self.open(visitor)
            page = told(visitor.get("/admin/account").body)
            change()
            self.house.clock.advance(EVERY_S)
            self.assertGreater(told(client.received()), page)
            late = visitor.stream()
            self.addCleanup(late.leave)
            now = told(late.received())
            self.assertGreater(now, page)
            self.assertEqual(told(visitor.get("/admin/account").body), now)

    def test_changes(self) -> None:
        """What changed within a tenth of a second is told at once, each path once."""
        client = self.open(self.house.signed_in())
        for path in ("/a/b", "/a/b", "/c d"):
            self.put(path)
        self.assertEqual(self.events(client), [])
        self.assertEqual(set(self.topics(client)), {"/a", "/a/b", "/c%20d"})
        self.assertEqual(self.topics(client), [])

    def test_only_what_may_be_read(self) -> None:
        """A browser hears of no path that its visitor may not read."""
        client, viewer = self.open(self.house.signed_in(SCOPED)), self.open(self.house.signed_in(VIEWER))
        self.put("/a/x")
        self.put("/b/x")
        self.house.signed_in()
        self.house.clock.advance(EVERY_S)
        self.assertEqual([json.loads(data) for _, data in self.events(client)], [["/a", "/a/x"]])
        self.assertFalse(any("/admin" in data for _, data in self.events(viewer)))

    def test_very_many(self) -> None:
        """Where very much has changed the event says that anything may have, and is short."""
        client = self.open(self.house.signed_in())
        for number in range(500):
            self.put(f"/many/{number}")
        self.assertEqual(self.topics(client), ["*"])

    def test_beats(self) -> None:
        """A stream with nothing to tell shows that it lives."""
        client = self.open(self.house.signed_in())
        self.house.clock.advance(BEAT_S)
        self.assertEqual(self.events(client), [("beat", "")])

    def test_session_over(self) -> None:
        """When the session ends the browser is told, and the stream ends; who has none is told at once."""
        visitor = self.house.signed_in()
        client = self.open(visitor)
        visitor.post("/admin/sign-out", do="out")
        self.house.clock.advance(EVERY_S)
        self.assertEqual(self.events(client), [("signed-out", "")])
        self.assertIn(b"event: signed-out", visitor.stream().received())

    def test_stop(self) -> None:
        """A stop ends the streams."""
        client = self.open(self.house.signed_in())
        self.house.restart()
        self.assertFalse(client.open)


class NoticeTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.house.signed_in()
        node, site = self.house.node, self.house.admin.site
        session = site.doors.sessions.all(self.house.clock.seconds())[0]
        self.visit = Visit(node, site.doors.live, site.doors.notices, Asked(), session)

    def shown(self) -> list[tuple[State, str]]:
        """The notices of the session."""
        return [(notice.state, notice.detail) for notice in self.visit.shown_notices()]

    def test_done_when_it_was_seen(self) -> None:
        """What was asked is told as asked until the tree shows the effect, then as done, with words on it."""

        def is_on(resource: Resource | None) -> str | None:
            return "it is on" if resource is not None and resource.content == b"on" else None

        self.visit.asked_for("turn it on", self.visit.when(("lamp",), is_on, 5))
        self.put("/lamp", b"off")
        self.assertEqual(self.shown(), [(State.ASKED, "")])
        self.assertIn(b"its effect is awaited", self.visitor.get("/admin/").body)
        self.put("/lamp", b"on")
        self.assertEqual(self.shown(), [(State.DONE, "it is on")])

    def test_seen_at_once(self) -> None:
        """An effect that is there already is done."""
        self.visit.asked_for("x", self.visit.when((), lambda _: "there", 5))
        self.assertEqual(self.shown(), [(State.DONE, "there")])

    def test_not_seen(self) -> None:
        """An effect that does not come in time is told as not done, with the time."""
        self.visit.asked_for("turn it on", self.visit.when(("lamp",), lambda _: None, 5))
        self.house.clock.advance(5)
        self.assertEqual([state for state, _ in self.shown()], [State.FAILED])
        self.assertIn("within 5 s", self.shown()[0][1])

    def test_failed(self) -> None:
        """A fault is why it is not done; what nobody foresaw is logged, and not shown."""
        for error in (StorageFull("no room"), RuntimeError("secret"), NotSeen("late")):
            effect: Deferred[str] = Deferred()
            self.visit.asked_for("x", effect)
            effect.errback(error)
        details = [detail for _, detail in self.shown()]
        self.assertEqual((details[0], details[2]), ("late", "no room"))
        self.assertNotIn("secret", details[1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stop(self) -> None:
        """A stop awaits no effect any more, and says so."""
        self.visit.asked_for("turn it on", self.visit.when(("lamp",), lambda _: None, 5))
        self.house.stop()
        self.assertEqual(self.shown(), [(State.FAILED, "the node stopped meanwhile")])

    def test_given_up(self) -> None:
        """Who looks no more at an effect leaves nothing behind."""
        effect = self.visit.when(("lamp",), lambda _: None, 5)
        effect.cancel()
        self.failureResultOf(effect)

    def test_forgotten(self) -> None:
        """What is settled is shown for a minute; a session has so many at most, and so have all."""
        now = [0.0]
        notices = Notices(lambda: now[0], lambda session: None)
        for number in range(40):
            notices.add("s", str(number), State.DONE)
        self.assertEqual([notice.text for notice in notices.shown("s")], ["39", "38", "37", "36", "35"])
        awaited = notices.add("s", "awaited")
        now[0] = 61.0
        self.assertEqual(notices.shown("s"), [awaited])
        for number in range(300):
            notices.add(str(number), "x")
        self.assertEqual(notices.shown("s"), [])


class SampleTests(SynchronousTestCase):
    def test_growth(self) -> None:
        """A sample is what was counted a second, and the mean of what was measured, since the last; nothing measured: a gap."""
        metrics = Metrics()
        counter, seconds = metrics.counter("n_total", "n", a="1"), metrics.histogram("t_seconds", "t")
        rate, mean = Series("rate", ("n_total",)), Series("mean", ("t_seconds",), mean_ms=True)
        samples = Samples(metrics, lambda: 5000, (rate, mean))
        samples.take(0.0)
        counter.add(10)
        metrics.counter("n_total", "n", a="2").add(10)
        seconds.observe(0.1)
        seconds.observe(0.3)
        samples.take(5.0)
        samples.take(5.0)
        self.assertEqual([line["values"] for line in samples.document([rate, mean])["lines"]], [[4.0, 0.0], [200.0, None]])  # type: ignore[attr-defined]
        self.assertEqual(samples.last(), [(rate, 0.0), (mean, None)])


class OverviewTests(LiveCase):
    def test_plots(self) -> None:
        """The overview's plots have a point for each step."""
        visitor = self.house.signed_in()
        for _ in range(3):
            self.house.clock.advance(STEP_S)
        for name in ("traffic", "latency"):
            self.assertEqual(len(json.loads(visitor.get(f"/admin/plots/{name}.json").body)["x"]), 3)
        self.assertEqual(visitor.get("/admin/plots/none.json").code, 404)

    def test_what_is_wrong(self) -> None:
        """What keeps the node from its work, and members that have not joined, are told, the worse first."""
        joins = {"coap://d1/x": "failed", "coap://d2/x": "pending"}
        write = Write(("groups", "g", "fanoutSets", "1"), "set", {"joins": joins})
        self.house.built.committer.commit(Unit((write,)))
        self.house.unready.append("the store takes no writes")
        _, problems = health(self.house.node)
        self.assertEqual([problem.grade for problem in problems], [Grade.BAD, Grade.WARNING])
        self.assertIn("1 members have not joined", problems[1].text)
        page = self.house.signed_in().get("/admin/").body
        self.assertIn(b"the store takes no writes", page)

    def test_changes_that_may_be_seen(self) -> None:
        """What happened lately is what the visitor may read."""
        self.put("/b/x")
        self.assertIn(b"/b/x", self.house.signed_in(VIEWER).get("/admin/").body)
        self.assertNotIn(b"/b/x", self.house.signed_in(SCOPED).get("/admin/").body)
        self.assertNotIn(b"/admin/sessions", self.house.signed_in(VIEWER).get("/admin/").body)


class FileTests(SynchronousTestCase):
    def test_files(self) -> None:
        """A file has a tag of its content: with it, it is kept for good; a browser that has it is told so; it is sent compressed."""
        files = Files()
        name = "vendor/htmx-4.0.1.min.js"
        tag = files.uri(name).partition("?v=")[2]
        whole, zipped = (
            files.answer(name, tag, {}, head_only=False),
            files.answer(name, None, {b"Accept-Encoding": b"gzip"}, head_only=False),
        )
        again = files.answer(name, None, {b"If-None-Match": b'"%s"' % tag.encode()}, head_only=False)
        assert whole and zipped and again
        self.assertIn(b"immutable", whole.rest)
        self.assertIn(b"no-cache", zipped.rest)
        self.assertLess(len(zipped.rest), len(whole.rest) / 2)
        self.assertEqual(again.code, 304)
        self.assertIsNone(files.answer("../service.py", None, {}, head_only=False))

    def test_vendored(self) -> None:
        """Each vendored library bears its version in its name and has its licence beside it."""
        names = [name for name in Files() if name.startswith("vendor/") and name.endswith(".js")]
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertIn(name.replace(".min.js", ".LICENSE.txt"), set(Files()))


class WordsTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Sizes and spans of time are said as people say them."""
        self.assertEqual([size(count) for count in (0, 999, 1500, 2_000_000)], ["0 bytes", "999 bytes", "1.5 kB", "2 MB"])
        self.assertEqual([duration(s) for s in (0.2, 61, 3600, 90_061)], ["0 s", "1 min 1 s", "1 h", "1 d 1 h"])
