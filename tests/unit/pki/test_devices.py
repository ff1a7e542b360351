from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import select

from core.clock import utc_now
from core.runtime import Runtime
from core.secrets import Secret
from core.settings import PkiSettings
from pki.authority import CertificateAuthority
from pki.certificates import list_certificates, revocation_of
from pki.devices import issue_device_certificate, to_pkcs12
from pki.errors import PkiError, WeakKeyError
from pki.models import Certificate
from pki.names import serial_text
from pki.verification import verify_client_chain
from tests.unit.pki.forge import DEVICE_ID
from tests.unit.pki.issue import ALICE, KEY, events, fail_after, issue


class TestIssue:
    def test_names_the_device(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        device_id = str(uuid.uuid4())
        certificate = issue(runtime, authority, device_id, user="alice@example.com")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [
            x509.UniformResourceIdentifier(f"urn:uuid:{device_id}"),
            x509.DNSName("alice-laptop.devices.ostiary.internal"),
            x509.RFC822Name("alice@example.com"),
        ]
        assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "alice-laptop"
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_lives_as_long_as_the_settings_say(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = issue(runtime, authority)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(hours=24)
        settings = runtime.settings.model_copy(update={"pki": PkiSettings(device_lifetime_hours=2)})
        other = CertificateAuthority.open(replace(runtime, settings=settings))
        certificate = issue(runtime, other)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(hours=2)

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=["p384", "ed25519", "rsa2048"],
    )
    def test_passes_verification(
        self,
        runtime: Runtime,
        authority: CertificateAuthority,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
    ) -> None:
        device_id = str(uuid.uuid4())
        der = issue(runtime, authority, device_id, key.public_key()).public_bytes(Encoding.DER)
        verified = verify_client_chain([der], [authority.root], [authority.issuing], utc_now())
        assert verified.device_id == device_id
        with runtime.database.reading() as session:
            assert revocation_of(session, verified.serial) is None

    def test_stores_certificate_and_event_but_no_key(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = issue(runtime, authority)
        with runtime.database.reading() as session:
            row = session.scalars(select(Certificate)).one()
            assert row.der == certificate.public_bytes(Encoding.DER)
            assert row.encrypted_key is None
            assert (row.profile, row.subject) == ("device", "alice-laptop")
        [issued] = events(runtime, "certificate.issue")
        assert issued.actor == "user:alice"
        assert issued.target == f"certificate:{serial_text(certificate)}"

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024),
            rsa.generate_private_key(3, 2048),
            ec.generate_private_key(ec.SECP521R1()),
        ],
        ids=["rsa1024", "e3", "p521"],
    )
    def test_refuses_weak_keys(
        self, runtime: Runtime, authority: CertificateAuthority, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    ) -> None:
        with pytest.raises(WeakKeyError):
            issue(runtime, authority, public_key=key.public_key())
        assert events(runtime, "certificate.issue") == []

    @pytest.mark.parametrize("device_id", ["", "1", DEVICE_ID.upper(), "x" * 5000])
    def test_refuses_what_is_no_device_id(
        self, runtime: Runtime, authority: CertificateAuthority, device_id: str
    ) -> None:
        with runtime.database.transaction() as session, pytest.raises(PkiError):
            issue_device_certificate(session, authority, device_id, "alice-laptop", "alice", KEY.public_key(), ALICE)

    @pytest.mark.parametrize("name", ["", "a" * 65])
    def test_refuses_a_name_that_does_not_fit(
        self, runtime: Runtime, authority: CertificateAuthority, name: str
    ) -> None:
        with pytest.raises(PkiError, match="64"):
            issue(runtime, authority, name=name)

    def test_nothing_is_left_when_the_transaction_fails(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        fail_after(
            runtime,
            lambda session: issue_device_certificate(
                session, authority, str(uuid.uuid4()), "alice-laptop", "alice", KEY.public_key(), ALICE
            ),
        )
        with runtime.database.reading() as session:
            assert list_certificates(session) == []


class TestPkcs12:
    @pytest.mark.parametrize("legacy", [False, True])
    def test_holds_key_certificate_and_cas(
        self, runtime: Runtime, authority: CertificateAuthority, legacy: bool
    ) -> None:
        certificate = issue(runtime, authority)
        data = to_pkcs12(KEY, certificate, authority, Secret(b"secret"), name="Alice's laptop", legacy=legacy)
        loaded = pkcs12.load_pkcs12(data, b"secret")
        assert isinstance(loaded.key, ec.EllipticCurvePrivateKey)
        assert loaded.key.private_numbers() == KEY.private_numbers()
        assert loaded.cert is not None
        assert loaded.cert.certificate == certificate
        assert loaded.cert.friendly_name == b"Alice's laptop"
        assert [extra.certificate for extra in loaded.additional_certs] == [authority.issuing, authority.root]

    def test_needs_a_password(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        with pytest.raises(PkiError, match="password"):
            to_pkcs12(KEY, issue(runtime, authority), authority, Secret(b""), name="x")
