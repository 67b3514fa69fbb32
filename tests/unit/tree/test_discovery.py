"""`/.well-known/core`: which links it has, how they are filtered and divided into pages, and that it follows the tree."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.link_format import Link, parse_links
from m2mapp.model.errors import Malformed, NotAcceptable, TooLarge
from m2mapp.model.messages import Method, Response
from m2mapp.tree import discovery
from m2mapp.tree.discovery import MAX_LINKS, Discovery
from m2mapp.tree.paths import parse_path
from m2mapp.tree.unit import CONTENT, EMPTY, Remove, Resource, Unit, Write
from tests.unit.fakes import Built, answer_of, ask, build_tree

RD = Link("/rd", (("rt", "core.rd"), ("ct", "40")))


def write(path: str, media_type: str | None = "text/plain", **attributes: object) -> Write:
    kept: Mapping[str, object] = {"attributes": attributes} if attributes else EMPTY
    return Write(parse_path(path), CONTENT, kept, b"1", media_type)


class DiscoveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.built = self.build()

    def build(self) -> Built:
        return build_tree(fixed_links=[RD])

    def commit(self, *changes: Write | Remove) -> None:
        self.successResultOf(self.built.committer.commit(Unit(changes)))

    def get(self, *query: tuple[str, str], accept: tuple[str, ...] = ()) -> Response:
        return answer_of(self.built, ask(Method.GET, "/.well-known/core", query=query, accept=accept))

    def targets(self, *query: tuple[str, str]) -> list[str]:
        return [link.target for link in parse_links(self.get(*query).payload.decode())]


class LinkTests(DiscoveryCase):
    def test_links(self) -> None:
        """The node's own links come first, then every content resource with its attributes and content format; collections do not."""
        self.commit(write("/a/t", rt="temperature", obs=True, hidden=False, sz=5))
        response = self.get()
        self.assertEqual(response.payload, b'</rd>;rt="core.rd";ct=40,</a/t>;rt="temperature";obs;sz=5;ct=0')
        self.assertEqual(response.content_type, LINK_FORMAT)

    def test_content_formats(self) -> None:
        """The content format follows the media type where it has a number, unless the attributes say one."""
        self.commit(write("/j", "application/json"), write("/x", "image/x"), write("/o", None), write("/c", ct="110 112"))
        links = {link.target: link.get("ct") for link in parse_links(self.get().payload.decode())}
        self.assertEqual(links, {"/rd": "40", "/j": "50", "/x": None, "/o": None, "/c": "110 112"})

    def test_strange_names(self) -> None:
        """Paths are percent-encoded, values quoted: what a name or value holds cannot end its link."""
        self.commit(write("/a>,<b", title='x",</evil>;rt="y'))
        (link,) = parse_links(self.get().payload.decode())[1:]
        self.assertEqual((link.target, link.get("title")), ("/a%3E,%3Cb", 'x",</evil>;rt="y'))

    def test_accept(self) -> None:
        """Link format is what there is."""
        self.assertEqual(self.get(accept=(LINK_FORMAT,)).content_type, LINK_FORMAT)
        self.assertRaises(NotAcceptable, self.get, accept=("application/json",))


class FilterTests(DiscoveryCase):
    def setUp(self) -> None:
        super().setUp()
        self.commit(
            write("/a/t1", rt="temperature m2m.x", title="One thing"),
            write("/a/t2", rt="temperature", **{"if": "sensor"}),
            write("/a/deep/t3", rt="temp"),
            write("/b", "application/json"),
        )

    def test_by_attribute(self) -> None:
        """A word of a list, a beginning, a whole value, and the node's own links among them."""
        self.assertEqual(self.targets(("rt", "temperature")), ["/a/t1", "/a/t2"])
        self.assertEqual(self.targets(("rt", "temp*")), ["/a/deep/t3", "/a/t1", "/a/t2"])
        self.assertEqual(self.targets(("rt", "m2m.x")), ["/a/t1"])
        self.assertEqual(self.targets(("rt", "core.*")), ["/rd"])
        self.assertEqual(sorted(self.targets(("rt", "*"))), ["/a/deep/t3", "/a/t1", "/a/t2", "/rd"])
        self.assertEqual((self.targets(("title", "One thing")), self.targets(("title", "One"))), (["/a/t1"], []))
        self.assertEqual((self.targets(("rt", "")), self.targets(("nothing", "x")), self.targets(("rt", "tem"))), ([], [], []))

    def test_by_several(self) -> None:
        """Every filter has to hold, whichever is looked up first."""
        self.assertEqual(self.targets(("rt", "temperature"), ("if", "sensor")), ["/a/t2"])
        self.assertEqual(self.targets(("if", "sensor"), ("rt", "temp*"), ("href", "/a/*")), ["/a/t2"])
        self.assertEqual(self.targets(("rt", "temperature"), ("rt", "m2m.x")), ["/a/t1"])
        self.assertEqual(self.targets(("rt", "temperature"), ("if", "other")), [])
        self.assertEqual(self.targets(("rt", "temperature"), ("nothing", "x")), [])

    def test_by_target(self) -> None:
        """A target, and a beginning of targets, of whatever part of a segment."""
        self.assertEqual(self.targets(("href", "/a/t1")), ["/a/t1"])
        self.assertEqual(sorted(self.targets(("href", "/a/t*"))), ["/a/t1", "/a/t2"])
        self.assertEqual(sorted(self.targets(("href", "/a*"))), ["/a/deep/t3", "/a/t1", "/a/t2"])
        self.assertEqual(sorted(self.targets(("href", "/a/*"))), ["/a/deep/t3", "/a/t1", "/a/t2"])
        self.assertEqual(len(self.targets(("href", "/*"))), 5)
        self.assertEqual(len(self.targets(("href", "*"))), 5)
        self.assertEqual(self.targets(("href", "/r*")), ["/rd"])
        for nothing in ("", "/", "/a", "a", "//", "/a/t1/", "/z*", "/a/t1/*", "x*"):
            self.assertEqual(self.targets(("href", nothing)), [], nothing)

    def test_by_encoded_target(self) -> None:
        """A target is found by its percent-encoded and by its plain text."""
        self.commit(write("/größe 1"))
        for wanted in ("/größe 1", "/gr%C3%B6%C3%9Fe%201", "/größe*"):
            self.assertEqual(self.targets(("href", wanted)), ["/gr%C3%B6%C3%9Fe%201"], wanted)

    def test_by_content_format(self) -> None:
        """The content format that follows from the media type is filtered by as well."""
        self.assertEqual(self.targets(("ct", "50")), ["/b"])
        self.assertEqual(sorted(self.targets(("ct", "0"))), ["/a/deep/t3", "/a/t1", "/a/t2"])
        self.assertEqual(self.targets(("ct", "0"), ("rt", "temp")), ["/a/deep/t3"])

    def test_the_index_follows_the_tree(self) -> None:
        """A resource is found by what its attributes are now, and not after it went."""
        self.commit(write("/a/t1", rt="light"))
        self.assertEqual((self.targets(("rt", "temperature")), self.targets(("rt", "light"))), (["/a/t2"], ["/a/t1"]))
        self.assertEqual(self.targets(("title", "*")), [])
        self.commit(Remove(("a",)))
        for words in (("rt", "light"), ("rt", "temp*"), ("if", "*"), ("href", "/a*")):
            self.assertEqual(self.targets(words), [], words)

    def test_the_index_is_built_at_the_start(self) -> None:
        """What was there before the start is found as it was."""
        queries = (("rt", "temperature"), ("rt", "temp*"), ("title", "One thing"), ("if", "sensor"))
        before = [self.targets(query) for query in queries]
        kept = [(resource, None) for resource in self.built.tree.walk()]
        self.built = self.build()
        self.built.tree.load(kept, 20)
        again = Discovery(self.built.tree, [RD])
        requests = [ask(Method.GET, "/.well-known/core", query=(query,)) for query in queries]
        self.assertEqual([[link.target for link in parse_links(again.respond(one).payload.decode())] for one in requests], before)


class PageTests(DiscoveryCase):
    def setUp(self) -> None:
        super().setUp()
        self.commit(*(write(f"/s/{number:04}", rt="s", title=f"n{number % 7}") for number in range(MAX_LINKS + 50)))

    def test_default(self) -> None:
        """An answer has at most 500 links; the second page has the rest."""
        first, second = self.targets(), self.targets(("page", "1"))
        self.assertEqual((len(first), len(second)), (MAX_LINKS, 51))
        self.assertEqual(len({*first, *second}), MAX_LINKS + 51)
        self.assertEqual(len(self.targets(("count", "99999"))), MAX_LINKS)

    def test_pages_of_every_kind_of_filter(self) -> None:
        """Whatever the filter, its pages together have what it finds, each once."""
        for query in (
            (("rt", "s"),),
            (("rt", "*"),),
            (("title", "n3"),),
            (("title", "n*"), ("rt", "s")),
            (("href", "/s/*"),),
            (("ct", "0"),),
        ):
            whole = self.targets(*query, ("count", "500"))
            paged = [target for page in range(10) for target in self.targets(*query, ("page", str(page)), ("count", "60"))]
            self.assertEqual((len(set(paged)), paged[: len(whole)]), (len(paged), whole), query)
            self.assertEqual(self.targets(*query, ("page", "999999")), [])

    def test_refused(self) -> None:
        """A page or count that is no number of at most six digits is refused with its name; a count of 0 is an empty answer."""
        for name in ("page", "count"):
            for value in ("", "-1", "1.5", "x", "1000000", "٣", "1 "):
                self.assertEqual(self.assertRaises(Malformed, self.get, (name, value)).field, name)
        self.assertEqual(self.targets(("count", "0")), [])

    def test_a_filter_that_would_look_at_too_much(self) -> None:
        """A filter that the index does not help with looks at a limited number of links, and then says what to do."""
        self.patch(discovery, "MAX_EXAMINED", 100)
        self.assertEqual(len(self.targets(("ct", "0"), ("count", "100"))), 100)
        self.assertEqual(self.assertRaises(TooLarge, self.get, ("ct", "50")).field, "query")
        self.assertEqual(len(self.targets(("ct", "0"), ("title", "n3"))), 79)


class EtagTests(DiscoveryCase):
    def test_new_values_do_not_change_it(self) -> None:
        """The ETag stays while values change: blocks of a long answer fit together although devices go on measuring."""
        self.commit(write("/a", rt="x"))
        first = self.get().etag
        self.commit(write("/a", rt="x"), Write(("a", "below"), "other"))
        self.assertEqual(self.get().etag, first)

    def test_links_change_it(self) -> None:
        """The ETag changes when a link comes, goes or has other attributes, or another content format."""
        tags = [self.get().etag]
        for change in (
            write("/a"),
            write("/a", rt="x"),
            write("/a", "application/json", rt="x"),
            write("/b"),
            Remove(("b",)),
            Remove(("a",)),
        ):
            self.commit(change)
            tags.append(self.get().etag)
        self.assertEqual(len(set(tags)), len(tags))

    def test_after_a_restart(self) -> None:
        """After a restart it is not below what it was."""
        self.commit(write("/a"), write("/b"))
        self.commit(Remove(("b",)))
        before = self.get().etag or b""
        last = self.built.tree.committed_number
        kept: list[tuple[Resource, None]] = [(resource, None) for resource in self.built.tree.walk()]
        self.built = self.build()
        self.built.tree.load(kept, last)
        after = Discovery(self.built.tree, [RD]).respond(ask(Method.GET, "/.well-known/core")).etag or b""
        self.assertGreaterEqual(after, before)
