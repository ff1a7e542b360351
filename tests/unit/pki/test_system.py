from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from sqlalchemy import delete, func, select

from core.audit import SYSTEM, AuditEvent
from core.clock import utc_now
from core.runtime import Runtime
from core.settings import GatewaySettings, PkiSettings, Settings, WebSettings
from pki.authority import CertificateAuthority
from pki.certificates import revoke_certificate
from pki.errors import PkiError
from pki.keys import GatewayKeyType
from pki.models import Authority, Certificate
from pki.profiles import IKE_INTERMEDIATE
from pki.system import SystemCertificate, gateway_names, portal_names, system_certificate

NAMES = ("vpn.example.com", "192.0.2.1", "2001:db8::1")


def leaf(certificate: SystemCertificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate.chain_der[0])


def alternative_names(certificate: SystemCertificate) -> x509.SubjectAlternativeName:
    return leaf(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def count(runtime: Runtime) -> int:
    with runtime.database.reading() as session:
        return session.scalars(select(func.count()).select_from(Certificate)).one()


class TestGatewayCertificate:
    def test_is_what_all_stock_clients_accept(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = leaf(system_certificate(runtime, authority, "gateway", NAMES))
        extensions = certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["vpn.example.com", "192.0.2.1", "2001:db8::1"]
        assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH, IKE_INTERMEDIATE]
        assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "vpn.example.com"
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=397)
        assert certificate.signature_hash_algorithm is not None
        assert certificate.signature_hash_algorithm.name == "sha256"

    def test_has_an_rsa_key_by_default(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        usual = replace(runtime, settings=Settings(state_dir=runtime.settings.state_dir))
        certificate = leaf(system_certificate(usual, authority, "gateway", NAMES))
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 3072
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert usage.key_encipherment

    def test_the_chain_is_end_entity_then_issuing_ca(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = system_certificate(runtime, authority, "gateway", NAMES)
        chain = [x509.load_der_x509_certificate(der) for der in certificate.chain_der]
        assert chain[1:] == [authority.issuing]
        assert x509.load_pem_x509_certificates(certificate.chain_pem().encode()) == chain
        verifier = (
            PolicyBuilder().store(Store([authority.root])).build_server_verifier(x509.DNSName("vpn.example.com"))
        )
        assert len(verifier.verify(chain[0], chain[1:])) == 3

    def test_the_private_key_fits(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = system_certificate(runtime, authority, "gateway", NAMES)
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        expected = leaf(certificate).public_key().public_bytes(*spki)
        assert certificate.private_key.public_key().public_bytes(*spki) == expected
        loaded = load_pem_private_key(certificate.private_key_pem().reveal(), None)
        assert loaded.public_key().public_bytes(*spki) == expected
        assert "PrivateKey" not in repr(certificate)


class TestReuse:
    def test_the_same_one_is_found_again(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        first = system_certificate(runtime, authority, "gateway", NAMES)
        again = system_certificate(
            runtime, CertificateAuthority.open(runtime), "gateway", (NAMES[0], NAMES[2], NAMES[1])
        )
        assert (again.chain_der, again.serial, again.not_after) == (first.chain_der, first.serial, first.not_after)
        assert count(runtime) == 1

    def test_renewed_when_a_third_of_its_life_remains(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        first = system_certificate(runtime, authority, "gateway", NAMES)
        lifetime = timedelta(days=runtime.settings.pki.server_lifetime_days)
        early, late = (first.not_after - lifetime / 3 + timedelta(seconds=s) for s in (-60, 60))
        assert system_certificate(runtime, authority, "gateway", NAMES, now=early).serial == first.serial
        renewed = system_certificate(runtime, authority, "gateway", NAMES, now=late)
        assert renewed.serial != first.serial
        assert renewed.not_after > first.not_after
        assert system_certificate(runtime, authority, "gateway", NAMES, now=late).serial == renewed.serial

    def test_issued_anew_when_the_names_change(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        first = system_certificate(runtime, authority, "gateway", NAMES)
        fewer = system_certificate(runtime, authority, "gateway", NAMES[:2])
        assert fewer.serial != first.serial
        assert len(alternative_names(fewer)) == 3

    def test_gateways_of_different_names_do_not_disturb_each_other(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        serials = [
            system_certificate(runtime, authority, "gateway", [name]).serial
            for name in ("a.example", "b.example") * 2
        ]
        assert serials[:2] == serials[2:]
        assert count(runtime) == 2

    def test_issued_anew_when_revoked(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        first = system_certificate(runtime, authority, "gateway", NAMES)
        with runtime.database.transaction() as session:
            revoke_certificate(session, first.serial, "key leaked", SYSTEM)
        assert system_certificate(runtime, authority, "gateway", NAMES).serial != first.serial

    def test_issued_anew_when_the_key_type_changes(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        system_certificate(runtime, authority, "radius", NAMES[:1])
        settings = runtime.settings.model_copy(update={"pki": PkiSettings(gateway_key_type="rsa-3072")})
        changed = system_certificate(replace(runtime, settings=settings), authority, "radius", NAMES[:1])
        assert isinstance(changed.private_key, rsa.RSAPrivateKey)

    def test_issued_anew_when_the_clock_went_back(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        ahead = system_certificate(runtime, authority, "gateway", NAMES, now=utc_now() + timedelta(days=10))
        assert system_certificate(runtime, authority, "gateway", NAMES).serial != ahead.serial

    def test_issued_anew_by_another_authority(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        first = system_certificate(runtime, authority, "gateway", NAMES)
        with runtime.database.transaction() as session:
            session.execute(delete(Authority))
        other = CertificateAuthority.open(runtime)
        second = system_certificate(runtime, other, "gateway", NAMES)
        assert second.serial != first.serial
        leaf(second).verify_directly_issued_by(other.issuing)

    def test_one_for_each_type_of_key(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        types: list[GatewayKeyType] = ["rsa-3072", "ecdsa-p256", "ed25519"]
        made = [system_certificate(runtime, authority, "gateway", NAMES, key_type=key_type) for key_type in types]
        assert len({one.serial for one in made}) == 3
        again = [system_certificate(runtime, authority, "gateway", NAMES, key_type=key_type) for key_type in types]
        assert [one.serial for one in again] == [one.serial for one in made]
        assert [type(one.private_key).__name__ for one in again] == [type(one.private_key).__name__ for one in made]
        assert isinstance(made[2].private_key, Ed25519PrivateKey)
        assert count(runtime) == 3

    def test_many_at_once_issue_one(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        def start(_: int) -> str:
            return system_certificate(runtime, authority, "portal", ["localhost"]).serial

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(start, range(4)))) == 1
        assert count(runtime) == 1

    def test_leaves_an_audit_event_and_an_encrypted_key(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        certificate = system_certificate(runtime, authority, "portal", ["localhost"])
        with runtime.database.reading() as session:
            event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
            row = session.scalars(select(Certificate)).one()
            assert (event.action, event.target) == ("certificate.issue", f"certificate:{certificate.serial}")
            assert event.detail["profile"] == "portal"
            assert row.encrypted_key is not None
            assert certificate.private_key_pem().reveal() not in row.encrypted_key


class TestOtherProfiles:
    def test_portal(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        certificate = system_certificate(
            runtime, authority, "portal", ("portal.example.com", "localhost", "127.0.0.1")
        )
        names = alternative_names(certificate)
        assert names.get_values_for_type(x509.DNSName) == ["portal.example.com", "localhost"]
        assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1")]
        assert isinstance(certificate.private_key, ec.EllipticCurvePrivateKey)
        purposes = leaf(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_a_name_too_long_for_a_common_name(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        long = ".".join(["a" * 60] * 4)
        certificate = system_certificate(runtime, authority, "gateway", [long])
        assert leaf(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "gateway"
        assert system_certificate(runtime, authority, "gateway", [long]).serial == certificate.serial

    @pytest.mark.parametrize("names", [[], ["foo..bar"], ["*.example.com"], ["a b"]])
    def test_refuses_bad_names(self, runtime: Runtime, authority: CertificateAuthority, names: list[str]) -> None:
        with pytest.raises(PkiError):
            system_certificate(runtime, authority, "gateway", names)
        assert count(runtime) == 0


class TestNames:
    def test_of_the_gateway(self) -> None:
        gateway = GatewaySettings(
            identity="vpn.example.com", public_addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1"))
        )
        assert gateway_names(Settings(gateway=gateway)) == NAMES

    @pytest.mark.parametrize(
        ("public_host", "first"),
        [
            ("portal.example.com", "portal.example.com"),
            ("portal.example.com:8443", "portal.example.com"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
        ],
    )
    def test_of_the_portal(self, public_host: str, first: str) -> None:
        names = portal_names(Settings(web=WebSettings(public_host=public_host)))
        assert names[:3] == (first, "localhost", "127.0.0.1")

    def test_of_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = Settings(web=WebSettings(public_host="localhost"))
        monkeypatch.setattr(socket, "gethostname", lambda: "box-7")
        assert portal_names(settings) == ("localhost", "127.0.0.1", "box-7")
        monkeypatch.setattr(socket, "gethostname", lambda: "box_7")
        assert portal_names(settings) == ("localhost", "127.0.0.1")
