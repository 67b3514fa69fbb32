"""`[coap] coaps`: the files that it names, and every fault of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.dtls.credentials import names_of, weakness
from m2mapp.coap.settings import CoapSettings, read
from tests.certificates import Issued, issue
from tests.unit.coap.dtls.ground import AUTHORITY, DEVICE, GATEWAY


class SettingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="m2m-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        GATEWAY.write(self.folder, "g1")
        AUTHORITY.write(self.folder, "ca")

    def file(self, name: str, content: bytes = b"") -> str:
        """The path of a file, with that content if any is given."""
        if content:
            (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def read(self, table: dict[str, object]) -> tuple[CoapSettings, dict[str, str]]:
        """The settings, and the faults by what they are about."""
        settings, faults = read(table, "[coap] ")
        return settings, {fault.field: fault.expected for fault in faults}

    def faults(self, **coaps: object) -> dict[str, str]:
        """The faults of coaps, given what is otherwise right."""
        usual: dict[str, object] = {"listen": ["[::1]:5684"], "certificate": self.file("g1.pem"), "key": self.file("g1.key")}
        return {key.removeprefix("[coap] coaps."): why for key, why in self.read({"coaps": {**usual, **coaps}})[1].items()}

    def test_off(self) -> None:
        """Nothing given, or everything empty, is coaps without a server: this node can still ask by it."""
        empty = {"listen": [], "certificate": "", "key": "", "client_ca": "", "server_ca": ""}
        tables: tuple[dict[str, object], ...] = ({}, {"coaps": {}}, {"coaps": empty})
        for table in tables:
            self.assertEqual(self.read(table), (CoapSettings(), {}))

    def test_everything(self) -> None:
        """The files are read: a chain in its order, the key, those who are believed."""
        chain = self.file("chain.pem", GATEWAY.pem + AUTHORITY.pem)
        ca = self.file("ca.pem")
        coaps = {"listen": ["[::]:5684"], "certificate": chain, "key": self.file("g1.key"), "client_ca": ca, "server_ca": ca}
        settings, faults = self.read({"coaps": coaps, "access": {"write": ["cert:dev-one", "cert:*"]}})
        self.assertEqual(faults, {})
        assert settings.coaps.identity is not None
        self.assertEqual(settings.coaps.listen, (("::", 5684),))
        self.assertEqual(settings.coaps.identity.chain, (GATEWAY.certificate, AUTHORITY.certificate))
        self.assertEqual((settings.coaps.client_ca, settings.coaps.server_ca), ((AUTHORITY.certificate,),) * 2)
        self.assertEqual(settings.access.write, ("cert:dev-one", "cert:*"))

    def test_certificates(self) -> None:
        """A certificate that cannot be read, is none, has ended or is too weak is a fault; one that is not good yet is none."""
        old, early = issue("g1", days=(-9, -1)), issue("g1", days=(1, 9))
        weak = issue("g1", key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - it is to be refused
        for file, why in (
            (self.file("nowhere.pem"), "a PEM file with certificates that can be read: No such file or directory"),
            (self.file("text.pem", b"text"), "a PEM file with one or more certificates (-----BEGIN CERTIFICATE-----)"),
            (self.file("old.pem", old.pem), "a file with a certificate that is still good: this one ended "),
            (self.file("weak.pem", weak.pem), "a file with a certificate that others can trust: its key has 1024 bits"),
            (7, "the path of a PEM file"),
        ):
            self.assertTrue(self.faults(certificate=file)["certificate"].startswith(why), file)
        self.assertEqual(self.faults(certificate=self.file("early.pem", early.pem), key=self.file("early.key", early.key_pem)), {})
        self.assertIn("client_ca", self.faults(client_ca=self.file("text.pem")))

    def test_keys(self) -> None:
        """A key that is none, is locked, is of an unknown sort or is another certificate's is a fault."""
        locked = GATEWAY.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        strange = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for file, why in (
            (self.file("nowhere.key"), "a PEM file with a private key that can be read: No such file or directory"),
            (self.file("text.key", b"text"), "a PEM file with a private key (-----BEGIN PRIVATE KEY-----)"),
            (self.file("locked.key", locked), "a PEM file with a private key that has no passphrase: nobody is there to type it"),
            (self.file("x25519.key", strange), "an EC, Ed25519, Ed448 or RSA private key"),
            (self.file("ca.key"), f"a file with the private key of the certificate in {self.file('g1.pem')}"),
        ):
            self.assertEqual(self.faults(key=file), {"key": why})

    def test_together(self) -> None:
        """What is of no use without another key is a fault."""
        self.assertEqual(list(self.faults(key="")), ["key"])
        self.assertEqual(list(self.faults(certificate="")), ["certificate"])
        self.assertEqual(list(self.faults(certificate="", key="")), ["certificate"])
        self.assertEqual(list(self.faults(listen=[], client_ca=self.file("ca.pem"))), ["client_ca"])
        self.assertEqual(self.faults(listen=[]), {})
        self.assertEqual(list(self.faults(listen=["[::]:5683"])), ["listen"])
        self.assertEqual(list(self.faults(listen=["nowhere"], colour="red")), ["colour", "listen[0]"])
        self.assertEqual(list(self.read({"coaps": 7})[1]), ["[coap] coaps"])
        self.assertEqual(list(self.read({"access": {"read": ["cert:dev-one"]}})[1]), ["[coap] access.read"])


class CertificateTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A certificate's names are its alternative names, DNS before URI; the common name counts where there are none."""
        self.assertEqual(names_of(DEVICE.certificate), ("dev-one", "urn:dev:one"))
        self.assertEqual(names_of(issue(common_name="dev-two").certificate), ("dev-two",))
        self.assertEqual(names_of(issue("fd00::1", common_name="dev\nthree").certificate), ())

    def test_weakness(self) -> None:
        """Keys of usual sizes are strong enough."""
        strong: tuple[Issued, ...] = (GATEWAY, issue("x", key=rsa.generate_private_key(65537, 2048)))
        self.assertEqual([weakness(one.certificate) for one in strong], ["", ""])
