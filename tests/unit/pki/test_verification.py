from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pki.errors import CertificateRefused
from pki.peer_certificate import MAXIMUM_CERTIFICATES, identity_matches
from pki.verification import VerifiedClient, verify_client_chain
from tests.unit.pki.forge import (
    DAY,
    DEVICE_ID,
    DEVICE_KEY,
    NOW,
    Extension,
    Forge,
    Signer,
    ca_extensions,
    certify,
    der_tlv,
    device_extensions,
    device_san,
    key_usage,
    name,
    self_signed,
)

FORGE = Forge()
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
OTHER_URI = x509.UniformResourceIdentifier("urn:uuid:11111111-2222-4333-8444-555555555555")


def verify(
    *chain: bytes,
    now: datetime = NOW,
    root: Signer = FORGE.root,
    intermediates: Sequence[Signer] = (FORGE.issuing,),
) -> VerifiedClient:
    return verify_client_chain(chain, [root.certificate], [signer.certificate for signer in intermediates], now)


def refusal(
    *chain: bytes, now: datetime = NOW, intermediates: Sequence[Signer] = (FORGE.issuing,)
) -> CertificateRefused:
    with pytest.raises(CertificateRefused) as caught:
        verify(*chain, now=now, intermediates=intermediates)
    return caught.value


class TestGoodCertificates:
    def test_tells_what_sign_in_needs(self) -> None:
        verified = verify(
            FORGE.issuing.device(
                san=device_san(
                    x509.DNSName("alice-laptop.devices.ostiary.internal"),
                    x509.RFC822Name("alice@example.com"),
                    x509.OtherName(UPN, b"\x0c\x12alice@corp.example"),
                    x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
                )
            )
        )
        assert verified == VerifiedClient(
            serial="1234567890abcdef",
            device_id=DEVICE_ID,
            identities=(
                "alice-laptop",
                f"urn:uuid:{DEVICE_ID}",
                "alice-laptop.devices.ostiary.internal",
                "alice@example.com",
                "alice@corp.example",
            ),
            subject_der=name("alice-laptop").public_bytes(),
            not_after=NOW + DAY,
        )

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP256R1()).public_key(),
            ec.generate_private_key(ec.SECP384R1()).public_key(),
            ed25519.Ed25519PrivateKey.generate().public_key(),
            rsa.generate_private_key(65537, 2048).public_key(),
        ],
        ids=["p256", "p384", "ed25519", "rsa2048"],
    )
    def test_takes_each_kind_of_device_key(self, key: CertificatePublicKeyTypes) -> None:
        assert verify(FORGE.issuing.device(public_key=key)).device_id == DEVICE_ID

    def test_ignores_what_the_client_sends_beside_its_own(self) -> None:
        stranger = self_signed("Stranger")
        assert verify(FORGE.issuing.device(), FORGE.issuing.der, b"not even DER", stranger.der)

    def test_holds_to_the_last_second(self) -> None:
        assert verify(FORGE.issuing.device(), now=NOW + DAY)
        assert verify(FORGE.issuing.device(), now=NOW - DAY)

    def test_takes_a_time_in_another_zone(self) -> None:
        assert verify(FORGE.issuing.device(), now=NOW.astimezone(tz=None))

    def test_is_fast(self) -> None:
        der = FORGE.issuing.device()
        verify(der)
        begin = time.perf_counter()
        for _ in range(200):
            verify(der)
        # 0.25 ms on the machine it was written on; the bound leaves room for a busy one.
        assert (time.perf_counter() - begin) / 200 < 0.005


class TestPath:
    def test_refuses_a_stranger(self) -> None:
        stranger = self_signed("Stranger")
        assert refusal(stranger.device(), stranger.der).code == "untrusted-certificate"

    def test_refuses_a_self_signed_one(self) -> None:
        me = name("alice-laptop")
        own = certify(
            me, DEVICE_KEY, me, DEVICE_KEY.public_key(), device_extensions(), begin=NOW - DAY, end=NOW + DAY
        )
        assert refusal(own.public_bytes(Encoding.DER)).code == "untrusted-certificate"

    def test_refuses_our_names_under_another_key(self) -> None:
        root = Signer(FORGE.root.certificate, ec.generate_private_key(ec.SECP256R1()))
        fake = root.ca("Test Issuing", 0)
        assert refusal(fake.device(), fake.der, FORGE.root.der).code == "untrusted-certificate"

    def test_refuses_a_wrong_signature(self) -> None:
        der = bytearray(FORGE.issuing.device())
        der[-1] ^= 1
        assert refusal(bytes(der)).code == "untrusted-certificate"

    def test_refuses_a_user_certificate_as_ca(self) -> None:
        user = Signer(x509.load_der_x509_certificate(FORGE.issuing.device("alice")), DEVICE_KEY)
        assert refusal(user.device("admin"), user.der, FORGE.issuing.der).code == "untrusted-certificate"
        # Not even if somebody put it among the issuing CAs: it has no CA flag.
        assert refusal(user.device("admin"), intermediates=[user, FORGE.issuing]).code == "untrusted-certificate"

    def test_refuses_a_ca_below_the_path_length(self) -> None:
        below = FORGE.issuing.ca("Below", None)
        assert refusal(below.device(), intermediates=[below, FORGE.issuing]).code == "untrusted-certificate"

    def test_refuses_a_ca_without_key_cert_sign(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[Extension] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (key_usage(digital_signature=True), True),
        ]
        ca = Signer(FORGE.root.certify(name("No sign"), key.public_key(), extensions), key)
        assert refusal(ca.device(), intermediates=[ca]).code == "untrusted-certificate"

    def test_refuses_below_an_expired_issuing_ca(self) -> None:
        old = FORGE.root.ca("Old", 0, begin=NOW - 9 * DAY, end=NOW - timedelta(hours=1))
        refused = refusal(old.device(), intermediates=[old])
        assert refused.code == "expired-certificate"
        assert "CA that signed it" in refused.reason

    def test_refuses_below_an_expired_root(self) -> None:
        refused = refusal(FORGE.root.device(), now=NOW + 30 * DAY, intermediates=[])
        assert refused.code == "expired-certificate"
        long = FORGE.issuing.device(end=NOW + 99 * DAY)
        assert refusal(long, now=NOW + 30 * DAY).code == "expired-certificate"

    def test_an_old_certificate_has_expired_also_after_its_ca_was_renewed(self) -> None:
        renewed = Signer(
            FORGE.root.certify(
                FORGE.issuing.certificate.subject,
                FORGE.issuing.key.public_key(),
                ca_extensions(0),
                begin=NOW + 2 * DAY,
            ),
            FORGE.issuing.key,
        )
        refused = refusal(FORGE.issuing.device(), now=NOW + 3 * DAY, intermediates=[renewed])
        assert (refused.code, "the certificate expired" in refused.reason) == ("expired-certificate", True)

    def test_refuses_without_any_anchor(self) -> None:
        with pytest.raises(CertificateRefused) as caught:
            verify_client_chain([FORGE.issuing.device()], [], [FORGE.issuing.certificate], NOW)
        assert caught.value.code == "untrusted-certificate"

    def test_refuses_outside_the_dates(self) -> None:
        der = FORGE.issuing.device()
        assert refusal(der, now=NOW + DAY + timedelta(seconds=1)).code == "expired-certificate"
        assert refusal(der, now=NOW - DAY - timedelta(seconds=1)).code == "not-yet-valid-certificate"

    def test_a_strangers_dates_do_not_matter(self) -> None:
        assert refusal(self_signed("Stranger").device(), now=NOW + 3 * DAY).code == "untrusted-certificate"

    def test_refuses_a_name_constraint_of_the_issuing_ca(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        constraint = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.com")], excluded_subtrees=None)
        ca = Signer(
            FORGE.root.certify(name("Narrow"), key.public_key(), [*ca_extensions(0), (constraint, True)]), key
        )
        outside = ca.device(san=device_san(x509.DNSName("OTHER.example.ORG")))
        assert refusal(outside, intermediates=[ca]).code == "untrusted-certificate"


class TestUsage:
    @pytest.mark.parametrize("certificate", [FORGE.issuing.der, FORGE.root.der], ids=["issuing", "root"])
    def test_refuses_a_ca_certificate(self, certificate: bytes) -> None:
        assert refusal(certificate).code == "wrong-usage"

    @pytest.mark.parametrize(
        "replaced",
        [
            {"constraints": (x509.BasicConstraints(ca=True, path_length=None), True)},
            {"usage": None},
            {"usage": (key_usage(key_encipherment=True), True)},
            {"usage": (key_usage(digital_signature=True, key_cert_sign=True), True)},
            {"purposes": None},
            {"purposes": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)},
            {"purposes": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)},
            {"san": None},
            {"san": (x509.SubjectAlternativeName([x509.DNSName("alice-laptop")]), False)},
            {"san": device_san(OTHER_URI)},
            {"san": (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:uuid:not-a-uuid")]), False)},
            {"san": (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"URN:UUID:{DEVICE_ID}")]), False)},
            {"extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]},
            {"extra": [(x509.NameConstraints([x509.DNSName("example.com")], None), True)]},
        ],
        ids=[
            "ca-flag",
            "no-key-usage",
            "no-digital-signature",
            "key-cert-sign",
            "no-eku",
            "server-eku",
            "any-eku",
            "no-san",
            "no-uri",
            "two-devices",
            "bad-uuid",
            "not-canonical",
            "unknown-critical",
            "critical-name-constraints",
        ],
    )
    def test_refuses_what_is_not_for_clients(self, replaced: dict[str, Extension | None]) -> None:
        assert refusal(FORGE.issuing.device(**replaced)).code == "wrong-usage"  # type: ignore[arg-type]

    def test_an_unknown_extension_that_is_not_critical_does_no_harm(self) -> None:
        unknown = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)
        assert verify(FORGE.issuing.device(extra=[unknown]))


class TestKeyStrength:
    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024).public_key(),
            rsa.generate_private_key(3, 2048).public_key(),
            rsa.RSAPublicNumbers(65537, 3 * (2**2047 + 1)).public_key(),
            ec.generate_private_key(ec.SECP521R1()).public_key(),
            ec.generate_private_key(ec.SECP256K1()).public_key(),
            ed448.Ed448PrivateKey.generate().public_key(),
            dsa.generate_private_key(1024).public_key(),
        ],
        ids=["rsa1024", "e3", "small-factor", "p521", "secp256k1", "ed448", "dsa"],
    )
    def test_refuses_weak_keys(self, key: CertificatePublicKeyTypes) -> None:
        assert refusal(FORGE.issuing.device(public_key=key)).code == "weak-key"


class TestMalformed:
    def test_refuses_an_empty_chain(self) -> None:
        assert refusal().code == "malformed-certificate"

    def test_bounds_number_and_size(self) -> None:
        good = FORGE.issuing.device()
        assert verify(*[good] * MAXIMUM_CERTIFICATES)
        assert refusal(*[good] * (MAXIMUM_CERTIFICATES + 1)).code == "malformed-certificate"
        assert refusal(bytes(16_385)).code == "malformed-certificate"
        assert refusal(good, *[bytes(16_000)] * 5).code == "malformed-certificate"

    def test_bounds_the_number_of_names(self) -> None:
        names = [x509.DNSName(f"n{i}.example.com") for i in range(40)]
        assert refusal(FORGE.issuing.device(san=device_san(*names))).code == "malformed-certificate"

    @pytest.mark.parametrize(
        "value",
        [b"\x05\x00", b"\x0c\x01\xff", b"\x16\x01a", b"\x0c\x81\x80" + b"a" * 128],
        ids=["null", "utf8", "ia5", "long"],
    )
    def test_refuses_a_broken_principal_name(self, value: bytes) -> None:
        der = FORGE.issuing.device(san=device_san(x509.OtherName(UPN, value)))
        assert refusal(der).code == "malformed-certificate"

    @pytest.mark.parametrize(
        ("find", "put", "code"),
        [
            ("a003020102", "a003020100", "malformed-certificate"),
            ("a003020102", "a003020107", "malformed-certificate"),
            ("02081234567890abcdef", "0208f234567890abcdef", "malformed-certificate"),
            ("02081234567890abcdef", "020100", "malformed-certificate"),
            ("02081234567890abcdef", "0215" + "11" * 21, "malformed-certificate"),
            ("170d", "180d", "malformed-certificate"),
            ("0603551d0f", "0603551d13", "malformed-certificate"),
            ("300a06082a8648ce3d040302", "300906072a8648ce3d0401", "untrusted-certificate"),
            ("06082a8648ce3d030107", "06082a8648ce3d030108", "malformed-certificate"),
        ],
        ids=[
            "version-1",
            "version-8",
            "negative-serial",
            "no-serial",
            "long-serial",
            "time-form",
            "extension-twice",
            "signature-algorithm",
            "curve",
        ],
    )
    def test_refuses_what_no_library_would_write(self, find: str, put: str, code: str) -> None:
        """Signed rightly by our own CA, but for what stands inside."""
        before = x509.load_der_x509_certificate(FORGE.issuing.device()).tbs_certificate_bytes
        content = before[4:]  # after tag and a length of two bytes
        assert content.hex().count(find) >= 1
        after = der_tlv(0x30, bytes.fromhex(content.hex().replace(find, put, 1)))
        assert refusal(FORGE.issuing.sign_bytes(after)).code == code

    def test_refuses_every_truncation_and_trailing_bytes(self) -> None:
        der = FORGE.issuing.device()
        for length in range(len(der)):
            assert refusal(der[:length]).code == "malformed-certificate"
        assert refusal(der + b"\0").code == "malformed-certificate"

    def test_refuses_deep_nesting(self) -> None:
        nested = b""
        for _ in range(3000):
            nested = b"\x30\x80" + nested
        assert refusal(nested).code == "malformed-certificate"

    def test_mutated_certificates_never_get_in(self) -> None:
        source = random.Random(1)
        original = FORGE.issuing.device(san=device_san(x509.DNSName("a.example.com"), x509.RFC822Name("a@b.c")))
        codes: dict[str, int] = {}
        for _ in range(4000):
            mutated = _mutate(source, original)
            if mutated != original:
                code = refusal(mutated).code
                codes[code] = codes.get(code, 0) + 1
        assert codes["malformed-certificate"] > 500
        assert codes["untrusted-certificate"] > 500

    def test_mutated_and_signed_again_raises_nothing_else(self) -> None:
        """Our own CA signs no such thing: this only brings the mutation to the code behind the signature check."""
        source = random.Random(2)
        certificate = x509.load_der_x509_certificate(
            FORGE.issuing.device(san=device_san(x509.DNSName("a.example.com"), x509.OtherName(UPN, b"\x0c\x01a")))
        )
        seen: set[str] = set()
        for _ in range(4000):
            der = FORGE.issuing.sign_bytes(_mutate(source, certificate.tbs_certificate_bytes))
            try:
                verified = verify(der)
            except CertificateRefused as error:
                seen.add(error.code)
            else:
                seen.add("accepted")
                identity_matches(verified, "dn:" + verified.subject_der.hex())
        assert seen >= {"accepted", "malformed-certificate", "untrusted-certificate", "wrong-usage"}

    @given(st.binary(max_size=200))
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        assert refusal(data).code == "malformed-certificate"


def _mutate(source: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        at = source.randrange(len(out))
        match source.randrange(6):
            case 0:
                out[at] ^= 1 << source.randrange(8)
            case 1:
                out[at] = source.choice((0, 1, 0x7F, 0x80, 0x84, 0xFF))
            case 2:
                del out[at : at + source.randrange(1, 8)]
            case 3:
                out[at:at] = source.randbytes(source.randrange(1, 8))
            case 4:
                end = min(len(out), at + source.randrange(1, 32))
                out[at:at] = out[at:end]
            case _:
                out[at : at + 4] = source.randbytes(4)
        if not out:
            return b"\0"
    return bytes(out)


class TestIdentity:
    VERIFIED = verify(
        FORGE.issuing.device(
            san=device_san(
                x509.DNSName("alice-laptop.devices.ostiary.internal"),
                x509.RFC822Name("alice@example.com"),
                x509.OtherName(UPN, b"\x0c\x12alice@corp.example"),
            )
        )
    )

    @pytest.mark.parametrize(
        "identity",
        [
            "alice-laptop",
            "Alice-Laptop",
            "ALICE-laptop.devices.ostiary.internal",
            "alice@EXAMPLE.com",
            "alice@corp.example",
            f"urn:uuid:{DEVICE_ID.upper()}",
        ],
    )
    def test_names_in_the_certificate_match(self, identity: str) -> None:
        assert identity_matches(self.VERIFIED, identity)

    @pytest.mark.parametrize(
        "identity",
        ["", "alice", "bob-laptop", "alice-laptop ", "alice-laptop\0", "10.0.0.1", "*", "%any", "a" * 100_000],
    )
    def test_others_do_not(self, identity: str) -> None:
        assert not identity_matches(self.VERIFIED, identity)

    def test_a_distinguished_name_matches_in_canonical_form(self) -> None:
        verified = _verified_with_subject(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example  Corp"),
                    x509.NameAttribute(NameOID.COMMON_NAME, "alice-laptop"),
                ]
            )
        )
        same = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, " example corp", x509.name._ASN1Type.PrintableString),
                x509.NameAttribute(NameOID.COMMON_NAME, "ALICE-laptop", x509.name._ASN1Type.BMPString),
            ]
        )
        assert identity_matches(verified, "dn:" + same.public_bytes().hex())

    @pytest.mark.parametrize(
        "identity",
        [
            "dn:",
            "dn:zz",
            "dn:3000",
            "dn:30",
            "dn:" + name("bob-laptop").public_bytes().hex(),
            "dn:" + name("alice-laptop").public_bytes().hex() + "00",
            "DN:" + name("alice-laptop").public_bytes().hex(),
            "dn:" + x509.Name([*name("alice-laptop"), *name("alice-laptop")]).public_bytes().hex(),
            "dn:" + x509.Name([x509.NameAttribute(NameOID.SURNAME, "alice-laptop")]).public_bytes().hex(),
        ],
    )
    def test_another_distinguished_name_does_not(self, identity: str) -> None:
        assert not identity_matches(self.VERIFIED, identity)

    def test_the_order_of_relative_names_counts(self) -> None:
        parts = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, "alice-laptop"),
        ]
        verified = _verified_with_subject(x509.Name(parts))
        assert identity_matches(verified, "dn:" + x509.Name(parts).public_bytes().hex())
        assert not identity_matches(verified, "dn:" + x509.Name(parts[::-1]).public_bytes().hex())

    @given(st.text(max_size=60))
    def test_any_text_is_no_error(self, identity: str) -> None:
        assert not identity_matches(self.VERIFIED, "dn:" + identity)


def _verified_with_subject(subject: x509.Name) -> VerifiedClient:
    certificate = FORGE.issuing.certify(subject, DEVICE_KEY.public_key(), device_extensions())
    return verify(certificate.public_bytes(Encoding.DER))
