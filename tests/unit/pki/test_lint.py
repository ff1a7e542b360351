from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

import pki.issuance
from pki.errors import LintError, PkiError, WeakKeyError
from pki.issuance import Issuer, Request, issue
from pki.keys import KeyKind
from pki.lint import LintContext, lint
from pki.names import subject
from pki.profiles import ALL_PROFILES, BACKDATE, DEVICE, GATEWAY, IKE_INTERMEDIATE, PORTAL
from tests.unit.pki.forge import DAY, DEVICE_ID, NOW, Extension, key_usage, name, self_signed

CA = self_signed("Test CA")
ISSUER = Issuer.of(CA.certificate, CA.key)
CONTEXT = LintContext(ISSUER.name, ISSUER.key_identifier, ISSUER.not_after, NOW)
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
GOOD: dict[str, Extension | None] = {
    "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
    "usage": (key_usage(digital_signature=True), True),
    "ski": (x509.SubjectKeyIdentifier.from_public_key(KEY), False),
    "aki": (x509.AuthorityKeyIdentifier(ISSUER.key_identifier, None, None), False),
    "eku": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, IKE_INTERMEDIATE]), False),
    "san": (x509.SubjectAlternativeName([x509.DNSName("vpn.example.com")]), False),
}
URI = x509.UniformResourceIdentifier(f"urn:uuid:{DEVICE_ID}")


def san(*names: x509.GeneralName) -> Extension:
    return x509.SubjectAlternativeName(names), False


def build(**changes: object) -> x509.Certificate:
    fields = {
        "issuer_name": ISSUER.name,
        "subject_name": name("vpn.example.com"),
        "public_key": KEY,
        "serial_number": 1 << 100,
        "not_valid_before": NOW - BACKDATE,
        "not_valid_after": NOW + DAY,
    }
    builder = x509.CertificateBuilder(**{k: changes.get(k, v) for k, v in fields.items()})  # type: ignore[arg-type]
    for key, usual in GOOD.items():
        extension = changes.get(key, usual)
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])  # type: ignore[index]
    return builder.sign(CA.key, hashes.SHA256())


def test_a_good_certificate_has_no_findings() -> None:
    assert lint(build(), GATEWAY, CONTEXT) == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"serial_number": 7}, "serial number"),
        ({"issuer_name": name("Other CA")}, "issuer"),
        ({"subject_name": x509.Name([])}, "common name"),
        ({"subject_name": x509.Name([*name("a"), *name("b")])}, "common name"),
        ({"not_valid_after": NOW + 398 * DAY}, "397 days"),
        ({"not_valid_after": NOW + 10 * DAY}, "outlives"),
        ({"not_valid_before": NOW - DAY}, "begin now"),
        ({"not_valid_before": NOW + timedelta(minutes=1)}, "begin now"),
        ({"public_key": rsa.generate_private_key(65537, 1024).public_key()}, "1024 bits"),
        ({"public_key": ec.generate_private_key(ec.SECP521R1()).public_key()}, "secp521r1"),
        ({"constraints": (x509.BasicConstraints(ca=True, path_length=None), True)}, "basic constraints"),
        ({"constraints": (x509.BasicConstraints(ca=False, path_length=None), False)}, "critical"),
        ({"constraints": None}, "extensions"),
        ({"usage": (key_usage(digital_signature=True, key_cert_sign=True), True)}, "key usage"),
        ({"ski": (x509.SubjectKeyIdentifier(b"1" * 20), False)}, "subject key identifier"),
        ({"aki": (x509.AuthorityKeyIdentifier(b"1" * 20, None, None), False)}, "authority key identifier"),
        ({"eku": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)}, "extended key usage"),
        ({"eku": None}, "extensions"),
        ({"san": None}, "extensions"),
        ({"san": (x509.SubjectAlternativeName([x509.DNSName("a.example.com")]), True)}, "critical"),
        ({"san": san()}, "alternative names"),
        ({"san": san(x509.DNSName("a.example.com"), x509.DNSName("a.example.com"))}, "stands there twice"),
        ({"san": san(x509.IPAddress(ip_address("192.0.2.1")))}, "wants a DNSName"),
        ({"san": san(x509.DNSName("192.0.2.1"))}, "not a host name"),
        ({"san": san(x509.DNSName("*.example.com"))}, "not a host name"),
        ({"san": san(x509.DNSName("a.example.com"), x509.RFC822Name("a@example.com"))}, "no RFC822Name"),
    ],
)
def test_finds_each_mistake(changes: dict[str, object], finding: str) -> None:
    assert finding in "; ".join(lint(build(**changes), GATEWAY, CONTEXT))


def test_finds_a_key_of_another_kind() -> None:
    only_rsa = replace(GATEWAY, key_kinds=frozenset({KeyKind.RSA}))
    assert lint(build(), only_rsa, CONTEXT) == ["the profile gateway does not allow a key of kind ecdsa-p256"]


def test_an_address_may_be_a_dns_name_only_beside_itself() -> None:
    both = build(san=san(x509.IPAddress(ip_address("192.0.2.1")), x509.DNSName("192.0.2.1")))
    assert lint(both, GATEWAY, CONTEXT) == []
    strict = replace(GATEWAY, address_as_dns_name=False)
    assert "not a host name" in "; ".join(lint(both, strict, CONTEXT))


@pytest.mark.parametrize(
    ("names", "finding"),
    [
        ([x509.DNSName("a.example.com")], "wants a UniformResourceIdentifier"),
        ([URI, x509.UniformResourceIdentifier("urn:uuid:1")], "exactly one device"),
        ([x509.UniformResourceIdentifier("urn:uuid:1")], "exactly one device"),
        ([URI, x509.RFC822Name._init_without_validation("a..@")], "mail address"),
        ([URI, x509.IPAddress(ip_address("192.0.2.1"))], "no IPAddress"),
    ],
)
def test_finds_mistakes_in_device_names(names: list[x509.GeneralName], finding: str) -> None:
    certificate = build(eku=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False), san=san(*names))
    assert finding in "; ".join(lint(certificate, DEVICE, CONTEXT))


def test_profiles_do_not_pass_for_each_other() -> None:
    for profile in ALL_PROFILES:
        if profile is not GATEWAY:
            assert lint(build(), profile, CONTEXT)


def request(**changes: object) -> Request:
    usual = Request(
        PORTAL, subject("Example", "portal"), KEY, timedelta(days=2), (x509.DNSName("portal.example.com"),)
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


class TestIssue:
    def test_signs_what_lint_agrees_to(self) -> None:
        certificate = issue(request(), ISSUER, NOW)
        certificate.verify_directly_issued_by(CA.certificate)
        assert certificate.not_valid_before_utc == NOW - BACKDATE
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=2)
        assert certificate.serial_number.bit_length() > 100
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)

    def test_serials_do_not_repeat(self) -> None:
        assert len({issue(request(), ISSUER, NOW).serial_number for _ in range(50)}) == 50

    def test_does_not_outlive_the_issuer(self) -> None:
        certificate = issue(request(lifetime=timedelta(days=300)), ISSUER, NOW)
        assert certificate.not_valid_after_utc == ISSUER.not_after

    def test_signs_nothing_that_breaks_the_profile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        signed_by_the_real_key = 0
        real = x509.CertificateBuilder.sign

        def watched(builder: x509.CertificateBuilder, key: object, *rest: object) -> x509.Certificate:
            nonlocal signed_by_the_real_key
            signed_by_the_real_key += key is ISSUER.private_key
            return real(builder, key, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(x509.CertificateBuilder, "sign", watched)
        with pytest.raises(LintError, match="not a host name"):
            issue(request(alternative_names=(x509.DNSName("foo..bar"),)), ISSUER, NOW)
        assert signed_by_the_real_key == 0
        issue(request(), ISSUER, NOW)
        assert signed_by_the_real_key == 1

    def test_signs_nothing_but_what_was_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = x509.CertificateBuilder.sign

        def treacherous(builder: x509.CertificateBuilder, key: object, *rest: object) -> x509.Certificate:
            if key is ISSUER.private_key:
                builder._serial_number = 1 << 90
            return real(builder, key, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(x509.CertificateBuilder, "sign", treacherous)
        with pytest.raises(LintError, match="not what was checked"):
            issue(request(), ISSUER, NOW)

    def test_refuses_a_weak_key(self) -> None:
        with pytest.raises(WeakKeyError):
            issue(request(public_key=rsa.generate_private_key(3, 2048).public_key()), ISSUER, NOW)

    def test_refuses_when_the_issuer_has_ended(self) -> None:
        with pytest.raises(PkiError, match="nothing can be issued") as caught:
            issue(request(), ISSUER, ISSUER.not_after)
        assert caught.value.fix is not None
        assert "clock" in caught.value.fix

    def test_rehearses_with_a_key_of_the_issuers_kind(self) -> None:
        rsa_key = rsa.generate_private_key(65537, 2048)
        issuer = replace(ISSUER, private_key=rsa_key)
        assert issue(request(), issuer, NOW).signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256
        assert pki.issuance._throwaway_key("rsa-3072") is pki.issuance._throwaway_key("rsa-3072")


def test_every_profile_is_sound() -> None:
    for profile in ALL_PROFILES:
        assert profile.max_lifetime <= timedelta(days=7300)
        assert profile.is_ca or profile.max_lifetime <= timedelta(days=397)
        assert set(profile.required_san_forms) <= set(profile.san_forms)
