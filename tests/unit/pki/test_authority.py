from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import delete, select

import pki.authority
from core.audit import AuditEvent
from core.clock import utc_now
from core.database import Database
from core.runtime import Runtime
from core.secrets import SecretBox, SecretError
from core.settings import PkiSettings, Settings
from pki.authority import CertificateAuthority, StoredCa, load_authority
from pki.errors import PkiError
from pki.issuance import Request
from pki.models import Authority
from pki.names import server_names, subject
from pki.profiles import BACKDATE, IKE_INTERMEDIATE, PORTAL


def request(common_name: str = "portal.example.com") -> Request:
    return Request(
        PORTAL,
        subject("Example", common_name),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        timedelta(days=1),
        server_names([common_name], address_as_dns_name=False),
    )


def actions(runtime: Runtime) -> list[str]:
    with runtime.database.reading() as session:
        return list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))


class TestFirstStart:
    def test_makes_a_root_and_an_issuing_ca(self, authority: CertificateAuthority) -> None:
        root, issuing = authority.root, authority.issuing
        root.verify_directly_issued_by(root)
        issuing.verify_directly_issued_by(root)
        for certificate, path_length in ((root, 1), (issuing, 0)):
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
            assert constraints.critical
            assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
            assert usage.critical
            assert usage.value.key_cert_sign
            assert usage.value.crl_sign
            assert usage.value.digital_signature is (certificate is issuing)
        purposes = issuing.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, IKE_INTERMEDIATE}

    def test_follows_the_settings(self, runtime: Runtime) -> None:
        pki_settings = PkiSettings(organization="Example Corp", root_lifetime_days=400, issuing_lifetime_days=3000)
        changed = replace(runtime, settings=runtime.settings.model_copy(update={"pki": pki_settings}))
        authority = CertificateAuthority.open(changed)
        organization = authority.root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
        assert organization == "Example Corp"
        life = authority.root.not_valid_after_utc - authority.root.not_valid_before_utc
        assert life == timedelta(days=400)
        assert authority.issuing.not_valid_after_utc == authority.root.not_valid_after_utc

    def test_makes_rsa_keys_where_asked(self, runtime: Runtime) -> None:
        pki_settings = PkiSettings(key_type="rsa-3072")
        changed = replace(runtime, settings=runtime.settings.model_copy(update={"pki": pki_settings}))
        key = CertificateAuthority.open(changed).issuing.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 3072

    def test_two_installations_have_cas_of_different_names(self, runtime: Runtime) -> None:
        first = CertificateAuthority.open(runtime)
        with runtime.database.transaction() as session:
            session.execute(delete(Authority))
        second = CertificateAuthority.open(runtime)
        assert first.root.subject != second.root.subject
        assert first.issuing.subject != second.issuing.subject

    def test_writes_audit_events(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        assert actions(runtime) == ["ca.create", "ca.create"]

    def test_keeps_the_keys_encrypted(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        with runtime.database.reading() as session:
            tokens = list(session.scalars(select(Authority.encrypted_key)))
        assert len(tokens) == 2
        for token in tokens:
            with pytest.raises(ValueError, match=r"."):
                load_der_private_key(token, None)
            assert load_der_private_key(runtime.box.decrypt(token).reveal(), None)

    def test_the_trust_file_is_the_root_alone(self, authority: CertificateAuthority) -> None:
        assert x509.load_pem_x509_certificates(authority.trust_pem().encode()) == [authority.root]


class TestLaterStarts:
    def test_find_the_same_authority(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        again = CertificateAuthority.open(runtime)
        assert (again.root, again.issuing) == (authority.root, authority.issuing)
        assert len(actions(runtime)) == 2
        again.sign(request()).verify_directly_issued_by(authority.issuing)

    def test_many_at_once_agree(self, runtime: Runtime, settings: Settings) -> None:
        together = Barrier(6)

        def start(_: int) -> tuple[x509.Certificate, x509.Certificate]:
            with Runtime(settings, Database.open(settings), SecretBox.open(settings)) as own:
                together.wait(timeout=20)
                authority = CertificateAuthority.open(own)
                authority.sign(request()).verify_directly_issued_by(authority.issuing)
                return authority.root, authority.issuing

        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(start, range(6)))) == 1
        assert len(actions(runtime)) == 2

    def test_one_that_loses_the_race_takes_the_stored_one(
        self, runtime: Runtime, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on PostgreSQL, where a look before the insert does not see what another transaction just inserted."""
        looks = iter([None, None])

        def load(session: object) -> tuple[StoredCa, StoredCa] | None:
            return next(looks, load_authority(session))  # type: ignore[arg-type]

        monkeypatch.setattr(pki.authority, "load_authority", load)
        late = CertificateAuthority.open(runtime)
        assert (late.root, late.issuing) == (authority.root, authority.issuing)

    def test_half_an_authority_is_an_error(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        with runtime.database.transaction() as session:
            session.execute(delete(Authority).where(Authority.name == "root"))
        with pytest.raises(PkiError, match="only one"):
            CertificateAuthority.open(runtime)

    def test_another_key_for_secrets_can_not_sign(
        self, runtime: Runtime, authority: CertificateAuthority, settings: Settings
    ) -> None:
        settings.secret_key_path.unlink()
        other = CertificateAuthority.open(replace(runtime, box=SecretBox.open(settings)))
        with pytest.raises(SecretError):
            other.sign(request())


class TestRenewal:
    LATE = timedelta(days=1300)

    def test_the_issuing_ca_is_renewed_for_the_same_name_and_key(
        self, runtime: Runtime, authority: CertificateAuthority
    ) -> None:
        old_leaf = authority.sign(request())
        now = utc_now() + self.LATE
        renewed = CertificateAuthority.open(runtime, now=now)
        assert renewed.root == authority.root
        assert renewed.issuing.subject == authority.issuing.subject
        assert renewed.issuing.serial_number != authority.issuing.serial_number
        assert renewed.issuing.not_valid_after_utc > authority.issuing.not_valid_after_utc
        old_leaf.verify_directly_issued_by(renewed.issuing)
        renewed.sign(request(), now=now).verify_directly_issued_by(authority.issuing)
        again = CertificateAuthority.open(runtime, now=now)
        assert again.issuing == renewed.issuing
        assert actions(runtime) == ["ca.create", "ca.create", "ca.renew"]

    def test_not_before_a_third_of_its_life_is_left(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        for days in (0, 600, 1200):
            again = CertificateAuthority.open(runtime, now=utc_now() + timedelta(days=days))
            assert again.issuing == authority.issuing

    def test_not_where_the_root_ends_it_all_the_same(self, runtime: Runtime) -> None:
        pki_settings = PkiSettings(root_lifetime_days=1000, issuing_lifetime_days=2000)
        changed = replace(runtime, settings=runtime.settings.model_copy(update={"pki": pki_settings}))
        authority = CertificateAuthority.open(changed)
        for now in (utc_now() + timedelta(days=900), utc_now() + timedelta(days=1100)):
            assert CertificateAuthority.open(changed, now=now).issuing == authority.issuing

    def test_many_at_once_renew_once(self, runtime: Runtime, authority: CertificateAuthority) -> None:
        now = utc_now() + self.LATE

        def start(_: int) -> x509.Certificate:
            return CertificateAuthority.open(runtime, now=now).issuing

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(start, range(4)))) == 1
        assert actions(runtime).count("ca.renew") == 1


def test_nothing_is_issued_by_an_authority_that_has_ended(authority: CertificateAuthority) -> None:
    end: datetime = authority.issuing.not_valid_after_utc
    with pytest.raises(PkiError, match="nothing can be issued"):
        authority.sign(request(), now=end + timedelta(seconds=1))


def test_an_issued_certificate_begins_a_little_in_the_past(authority: CertificateAuthority) -> None:
    now = utc_now().replace(microsecond=0)
    certificate = authority.sign(request(), now=now)
    assert now - certificate.not_valid_before_utc == BACKDATE
    assert certificate.public_bytes(Encoding.DER)
