"""The judge of what an endpoint may send: what it lets pass, and each rule that it must not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.message import MalformedMessage, parse
from tests.unit.coap.allowed import Judge, read_frame
from tests.unit.coap.fakes import vectors

_GET = "410100017a b161"  # confirmable GET /a, message ID 1, token 7a
_NON = "510100017a b161"
_OBSERVE = "410100017a 60 5161"


def judged(received: str, *answers: str, group: bool = False) -> str:
    """Why the last of some answers to a datagram is forbidden. All as hexadecimal digits."""
    judge = Judge()
    judge.sent("peer", bytes.fromhex(received), to_group=group)
    return [judge.got("peer", bytes.fromhex(answer)) for answer in answers][-1]


class JudgeTests(SynchronousTestCase):
    def test_reads_as_the_codec_does(self) -> None:
        """The judge's own reading of the real datagrams is the codec's."""
        for name, data in vectors().items():
            message, frame = parse(data), read_frame(data)
            assert frame is not None
            self.assertEqual((frame.mtype, frame.code, frame.mid, frame.token, frame.options, frame.payload), tuple(message), name)
            self.assertTrue(frame.sound)
            for cut in range(len(data)):
                shorter = read_frame(data[:cut])
                try:
                    parse(data[:cut])
                except MalformedMessage as fault:
                    self.assertEqual(
                        (shorter.mid, shorter.sound) if shorter else None, (fault.mid, False) if fault.mid is not None else None
                    )
                else:
                    self.assertTrue(shorter is not None and shorter.sound)

    def test_allowed(self) -> None:
        """What the RFCs let an endpoint answer."""
        for received, *answers in (
            (_GET, "614500017a ff31"),
            (_GET, "60000001", "414512347a ff31", "414512347a ff31"),
            (_GET, "60000001", "514512347a ff31"),
            (_GET, "70000001"),
            (_NON, "514512347a ff31"),
            (_NON, "70000001"),
            (_OBSERVE, "614500017a 6101 ff31", "514500027a 6102 ff31", "518400037a"),
            ("40000001", "70000001"),
            ("4f010001", "70000001"),
            ("410100017a d1fc07", "618200017a"),
            ("410100017a b161 c106", "614500017a d10a06 ff31"),
        ):
            self.assertEqual(judged(received, *answers), "", (received, answers))
        self.assertEqual(judged(_NON, "514512347a ff31", group=True), "")
        self.assertEqual(judged("510100017a b161 d0ea", "518412347a", group=True), "", "No-Response asks for all")

    def test_forbidden(self) -> None:
        """Each answer that an endpoint must not give, and the word that says why."""
        for why, received, *answers in (
            ("malformed", _GET, "614500017a ff"),
            ("malformed", _GET, "a14500017a"),
            ("0 messages", _NON, "60000001"),
            ("0 messages", _GET, "70000002"),
            ("1 messages", _GET, "614500017a ff31", "614500017a ff31"),
            ("answers nothing", _GET, "40000001"),
            ("is none", _GET, "616000017a"),
            ("Reset with a code", _GET, "714500017a"),
            ("no request", _GET, "6145000179 ff31"),
            ("no request", _GET, "5145000179 ff31"),
            ("0 messages", _GET, "614500027a ff31"),
            ("more responses", _NON, "514512347a ff31", "514512357a ff31"),
            ("MAX_RETRANSMIT", _GET, *["414512347a"] * 6),
            ("0 messages", "60000001", "70000001"),
            ("malformed", "0f010001", ""),
            ("0 messages", "0f010001", "70000001"),
            ("in answer to the method", _GET, "614400017a"),
            ("in spite of the critical option", "410100017a d1fc07", "614500017a"),
            ("registers nobody", _GET, "614500017a 6101"),
            ("option 1", _GET, "614500017a 10"),
            ("No-Response refused", "410100017a d1f502", "614500017a"),
            ("block 0 of 64", "410100017a d10a01", "614500017a d10a02 ff31"),
            ("Block2 of 16", _GET, "614500017a d10a08 ff31"),
            ("Block1", _GET, "615f00017a d10e08"),
        ):
            self.assertIn(why, judged(received, *answers))
        for why, received, answer in (
            ("0 messages", _GET, "70000001"),
            ("0 messages", _GET, "614500017a ff31"),
            ("confirmable", _GET, "514500017a ff31"),
            ("an error or an empty", _NON, "518412347a ff31"),
            ("an error or an empty", _NON, "514512347a"),
        ):
            self.assertIn(why, judged(received, answer, group=True), (received, answer))
