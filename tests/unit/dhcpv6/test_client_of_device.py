"""The client's side for an address: what a device does otherwise than a router. Confirm, Decline, Reconfigure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes
from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.client_messages import Wish
from m2mapp.dhcpv6.client_states import Phase
from m2mapp.dhcpv6.message import Message
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.numbers import Status
from m2mapp.dhcpv6.packet import parse
from m2mapp.dhcpv6.reconfigure import ReconfigureKeys
from tests.unit.dhcpv6.test_client import Walk

_DUID, _SERVER = b"\0\4client", b"\0\4server"
_ADDRESS = IPv6Address("2001:db8:5::d1")
_WISH = Wish(for_prefix=False, reconfigure=True)


def _ia(preferred_s: int = 1000, valid_s: int = 2000, address: IPv6Address = _ADDRESS) -> o.IaNa:
    return o.IaNa(1, 0, 0, (o.IaAddress(address, preferred_s, valid_s),))


class _Device(Walk):
    """A device's client, and the server that it has its address from."""

    def __init__(self, wish: Wish = _WISH, kept: Lease | None = None) -> None:
        super().__init__(wish, kept)
        self.keys = ReconfigureKeys(b"secret", lambda: 1)

    def bind(self, *more: o.Option, **_: int) -> None:
        """Go from the first Solicit to a lease, with Rapid Commit, a key, and a bootstrap service."""
        self.after(1)
        told = (o.ReconfigureAccept(), self.keys.option(_DUID), o.Opaque(65001, b"coap://bs"), *more)
        self.answer(T.REPLY, o.RapidCommit(), _ia(), *told)

    def reconfigure(self, wanted: T = T.RENEW, *, server: bytes = _SERVER, keys: ReconfigureKeys | None = None) -> str | None:
        """The server's Reconfigure comes; why it is discarded, or None."""
        return self.take((keys or self.keys).message(server, _DUID, wanted))

    def take(self, data: bytes) -> str | None:
        """A datagram comes; why it is discarded, or None."""
        message = parse(data)
        assert isinstance(message, Message)
        why = self.client.received(message, self.now)
        self._collect()
        return why


class BindingTests(SynchronousTestCase):
    def test_two_messages(self) -> None:
        """Power on: one Solicit to all servers, with both options and Reconfigure Accept asked for; with Rapid Commit that is all."""
        device = _Device()
        device.bind(o.Opaque(65002, b"der"))
        self.assertEqual([message.type for _, message in device.sent], [T.SOLICIT])
        options = device.last.options
        self.assertEqual(o.first(options, o.OptionRequest), o.OptionRequest((65001, 65002, 82)))
        self.assertEqual(o.first(options, o.IaNa), o.IaNa(1))
        self.assertIsNotNone(o.first(options, o.ReconfigureAccept))
        lease = device.client.lease
        assert lease is not None
        self.assertEqual((device.names(), lease.bootstrap), ([str(_ADDRESS)], Bootstrap("coap://bs", b"der")))

    def test_vendor_options(self) -> None:
        """Inside option 17, where the file says so: option 17 is asked for, and read."""
        codes = BootstrapCodes(in_option=False, in_vendor=True, vendor_enterprise=4491)
        device = _Device(replace(_WISH, codes=codes))
        device.bind(o.VendorOpts(4491, (o.Opaque(1, b"coap://other"),)))
        self.assertEqual(o.first(device.last.options, o.OptionRequest), o.OptionRequest((17, 82)))
        assert device.client.lease is not None
        self.assertEqual(device.client.lease.bootstrap, Bootstrap("coap://other"))

    def test_release(self) -> None:
        """At its end it gives the address back."""
        device = _Device()
        device.bind()
        device.client.release(device.now)
        (released,) = device.client.sends()
        self.assertEqual((released.type, o.first(released.options, o.IaNa)), (T.RELEASE, _ia(0, 0)))
        self.assertEqual((o.first(released.options, o.ReconfigureAccept), o.first(released.options, o.OptionRequest)), (None, None))


class ConfirmTests(SynchronousTestCase):
    def device(self) -> _Device:
        """A device that has started again with a lease of which 100 s of T1 are left; it has sent its Confirm."""
        lease = Lease(_SERVER, (Item(_ADDRESS, 600, 1600, 1000.0),), 100, 400, 1000.0, Bootstrap("coap://bs"))
        device = _Device(kept=lease)
        device.after(1)
        self.assertEqual((device.client.phase, device.last.type), (Phase.VERIFYING, T.CONFIRM))
        self.assertEqual((o.first(device.last.options, o.ServerId), o.first(device.last.options, o.IaNa)), (None, _ia(0, 0)))
        return device

    def test_same_link(self) -> None:
        """The address is of the link: it is used on, with all that came with it, and renewed when its T1 has come."""
        device = self.device()
        self.assertIsNone(device.answer(T.REPLY, o.StatusCode(Status.SUCCESS)))
        assert device.client.lease is not None
        self.assertEqual((device.client.phase, device.client.lease.bootstrap.uri), (Phase.BOUND, "coap://bs"))
        device.to(1101)
        self.assertEqual((device.last.type, o.first(device.last.options, o.ServerId)), (T.RENEW, o.ServerId(_SERVER)))

    def test_other_link(self) -> None:
        """It is not: nothing is used any more, and it asks anew."""
        device = self.device()
        device.answer(T.REPLY, o.StatusCode(Status.NOT_ON_LINK))
        self.assertEqual((device.client.phase, device.client.lease), (Phase.SOLICITING, None))

    def test_nobody_says_otherwise(self) -> None:
        """Nobody answers, or with what is no answer to a Confirm: it is used on."""
        device = self.device()
        self.assertIsNotNone(device.answer(T.REPLY, o.StatusCode(Status.UNSPEC_FAIL)))
        device.after(12)
        self.assertEqual((device.client.phase, device.names()), (Phase.BOUND, [str(_ADDRESS)]))


class DeclineTests(SynchronousTestCase):
    def test_declined(self) -> None:
        """Another host has the address: it is declined, four times if nobody answers, and then another one is asked for."""
        for answered in (True, False):
            device = _Device()
            device.bind()
            device.client.decline(device.now)
            (declined,) = device.client.sends()
            self.assertEqual((declined.type, o.first(declined.options, o.IaNa), device.client.lease), (T.DECLINE, _ia(0, 0), None))
            self.assertEqual(o.first(declined.options, o.ServerId), o.ServerId(_SERVER))
            if answered:
                device.answer(T.REPLY, o.StatusCode(Status.SUCCESS), to=declined)
                self.assertEqual(device.client.phase, Phase.SOLICITING)
            device.after(20)
            self.assertEqual(sum(message.type is T.DECLINE for _, message in device.sent), 0 if answered else 3)
            self.assertEqual((device.client.phase, device.last.type), (Phase.SOLICITING, T.SOLICIT))

    def test_found_while_verifying(self) -> None:
        """After a restart, before anybody has answered its Confirm: the address that another host has meanwhile is declined."""
        device = _Device(kept=Lease(_SERVER, (Item(_ADDRESS, 600, 1600, 1000.0),), 100, 400, 1000.0))
        device.after(1)
        device.client.decline(device.now)
        (declined,) = device.client.sends()
        self.assertEqual((declined.type, o.first(declined.options, o.IaNa), device.client.lease), (T.DECLINE, _ia(0, 0), None))
        self.assertEqual(o.first(declined.options, o.ServerId), o.ServerId(_SERVER))
        device.answer(T.REPLY, o.StatusCode(Status.SUCCESS), to=declined)
        self.assertEqual(device.client.phase, Phase.SOLICITING)

    def test_nothing_to_decline(self) -> None:
        """Without an address nothing is declined."""
        device = _Device()
        device.client.decline(device.now)
        self.assertEqual(device.client.phase, Phase.SOLICITING)


class ReconfigureTests(SynchronousTestCase):
    def test_asks_again(self) -> None:
        """The server's Reconfigure makes it renew, or rebind, at once; while it does so a further one changes nothing."""
        for wanted in (T.RENEW, T.REBIND):
            device = _Device()
            device.bind()
            self.assertIsNone(device.reconfigure(wanted))
            self.assertEqual(device.last.type, wanted)
            sent = len(device.sent)
            self.assertIsNone(device.reconfigure(T.RENEW))
            self.assertEqual(len(device.sent), sent)
            device.answer(T.REPLY, _ia(), o.Opaque(65001, b"coap://elsewhere"))
            assert device.client.lease is not None
            self.assertEqual(device.client.lease.bootstrap.uri, "coap://elsewhere")
            self.assertIsNone(device.reconfigure(T.INFORMATION_REQUEST))
            self.assertEqual(device.client.phase, Phase.BOUND)

    def test_not_the_servers(self) -> None:
        """What was made without the key, came before, was changed on its way, or is for another, is discarded and moves nothing."""
        device = _Device()
        data = device.keys.message(_SERVER, _DUID, T.RENEW)
        self.assertIn("without a key", str(device.take(data)))
        device.bind()
        self.assertIn("came before", str(device.take(data)))
        self.assertIn("not made with the key", str(device.reconfigure(keys=ReconfigureKeys(b"other", lambda: 9))))
        fresh = device.keys.message(_SERVER, _DUID, T.RENEW)
        self.assertIn("not made with the key", str(device.take(fresh.replace(b"\0\x13\0\1\5", b"\0\x13\0\1\6"))))
        self.assertIn("without a key", str(device.reconfigure(server=b"\0\4another")))
        self.assertIsNone(device.take(fresh))
        device.answer(T.REPLY, _ia())
        self.assertIn("came before", str(device.take(fresh)))
        self.assertIn("another client", str(device.take(device.keys.message(_SERVER, b"\0\4somebody", T.RENEW))))
        self.assertEqual((device.client.phase, len(device.sent)), (Phase.BOUND, 2))

    def test_not_wanted(self) -> None:
        """A client that does not accept Reconfigure messages discards them."""
        device = _Device(replace(_WISH, reconfigure=False))
        device.bind()
        self.assertIn("not for clients", str(device.reconfigure()))
