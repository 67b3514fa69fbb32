"""How things are named inside the program."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.identifiers import REQUEST_ID_BYTES, new_request_id, new_trace, path_text


class IdentifierTests(SynchronousTestCase):
    def test_traces(self) -> None:
        """Trace ids are 32 lower-case hexadecimal digits and differ."""
        traces = {new_trace() for _ in range(100)}
        self.assertEqual(len(traces), 100)
        for trace in traces:
            self.assertEqual((len(trace), bytes.fromhex(trace).hex()), (32, trace))

    def test_request_identifiers(self) -> None:
        """Request identifiers are 8 bytes and differ, also for one server."""
        made = {new_request_id("fd00::1") for _ in range(100)}
        self.assertEqual((len(made), {len(one) for one in made}), (100, {REQUEST_ID_BYTES}))

    def test_path_text(self) -> None:
        """Paths are shown with slashes; the root is one."""
        self.assertEqual([path_text(()), path_text(("a", "b c"))], ["/", "/a/b c"])
