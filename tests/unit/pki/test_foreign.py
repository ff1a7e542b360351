from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pki.errors import CertificateRefused
from pki.foreign import MOST_INTERMEDIATES, ForeignAuthorities, ForeignClient, own_names, usable_intermediates
from pki.peer_certificate import MAXIMUM_CERTIFICATES, identity_matches
from tests.unit.pki.foreign_forge import (
    CLIENT_AUTH,
    END_ENTITY,
    SIGNS,
    Company,
    authorities,
    ca_below,
    der,
    principal,
    trusted,
    user_certificate,
)
from tests.unit.pki.forge import (
    DAY,
    DEVICE_ID,
    NOW,
    Extension,
    Signer,
    ca_extensions,
    certify,
    key_usage,
    name,
    self_signed,
)

CORP = Company()
KNOWN = authorities(trusted(CORP.root, CORP.issuing))
ROOT_ONLY = authorities(trusted(CORP.root))


def refusal(chain: Sequence[bytes], known: ForeignAuthorities = KNOWN, now: Any = NOW) -> CertificateRefused:
    with pytest.raises(CertificateRefused) as caught:
        known.verify(chain, now)
    return caught.value


def accepted(*extra: Extension, known: ForeignAuthorities = KNOWN, **changes: Any) -> ForeignClient:
    return known.verify(der(user_certificate(CORP.issuing, *extra, **changes)), NOW)


class TestGoodCertificates:
    def test_tells_what_sign_in_needs(self) -> None:
        certificate = user_certificate(
            CORP.issuing, names=[principal("Alice@CORP.example"), x509.RFC822Name("alice.adams@corp.example")]
        )
        client = KNOWN.verify(der(certificate), NOW)
        assert (client.authority, client.serial) == ("corporate", "1234567890abcdef")
        assert client.identities == ("Alice Adams", "Alice@CORP.example", "alice.adams@corp.example")
        assert (client.names_user, client.user_names) == (True, ("alice@corp.example", "alice"))
        assert (client.device_names, client.device_id) == ((), "")
        assert client.path == (certificate, CORP.issuing.certificate, CORP.root.certificate)
        assert client.not_after == NOW + DAY
        assert identity_matches(client, "alice@corp.example")
        assert identity_matches(client, "dn:" + client.subject_der.hex())
        assert not identity_matches(client, "bob@corp.example")

    def test_takes_the_intermediates_that_the_peer_sends(self) -> None:
        below = CORP.root.ca("Department", 1)
        deeper = below.ca("Team", 0)
        certificate = user_certificate(deeper)
        for sent in ([below, deeper], [deeper, below], [CORP.root, deeper, below, CORP.issuing]):
            client = ROOT_ONLY.verify(der(certificate, *sent), NOW)
            assert client.path == (
                certificate,
                deeper.certificate,
                below.certificate,
                CORP.root.certificate,
            )
        assert refusal(der(certificate, deeper), ROOT_ONLY).code == "untrusted-certificate"

    def test_takes_a_client_directly_below_the_root(self) -> None:
        assert len(KNOWN.verify(der(user_certificate(CORP.root)), NOW).path) == 2

    def test_passes_over_what_the_peer_sends_beside_a_path(self) -> None:
        stranger = self_signed("Stranger")
        sent = [*der(user_certificate(CORP.issuing)), b"no DER", *der(stranger, CORP.issuing)]
        assert KNOWN.verify(sent, NOW).user_names[-1] == "alice"

    @pytest.mark.parametrize(
        "usual",
        [
            [END_ENTITY, SIGNS, CLIENT_AUTH],
            [SIGNS, CLIENT_AUTH],
            [CLIENT_AUTH],
            [],
            [SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
            [SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE]), True)],
            [(key_usage(content_commitment=True), True), CLIENT_AUTH],
        ],
        ids=["usual", "no-constraints", "no-key-usage", "bare", "any-purpose", "ike", "non-repudiation"],
    )
    def test_takes_each_usage_of_a_client(self, usual: list[Extension]) -> None:
        assert accepted(usual=usual).user_names

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
            ec.generate_private_key(ec.SECP384R1()),
        ],
        ids=["rsa", "ed25519", "p384"],
    )
    def test_takes_each_kind_of_client_key(self, key: Any) -> None:
        assert accepted(public_key=key.public_key()).user_names

    def test_the_same_key_always_has_the_same_holder(self) -> None:
        first, again = accepted(serial=1), accepted(serial=2)
        assert first.holder_id == again.holder_id
        assert str(uuid.UUID(first.holder_id)) == first.holder_id
        other_key = accepted(public_key=ec.generate_private_key(ec.SECP256R1()).public_key())
        elsewhere = accepted(known=authorities(trusted(CORP.root, CORP.issuing, name="partner")))
        assert len({first.holder_id, other_key.holder_id, elsewhere.holder_id}) == 3

    def test_finds_the_authority_among_several(self) -> None:
        other = Company("Partner")
        known = authorities(trusted(CORP.root, CORP.issuing), trusted(other.root, name="partner"))
        client = known.verify(der(user_certificate(other.issuing), other.issuing), NOW)
        assert client.authority == "partner"
        assert known.named("partner").name == "partner"
        assert [authority.name for authority in known] == ["corporate", "partner"]

    def test_is_fast(self) -> None:
        chain = der(user_certificate(CORP.issuing), CORP.issuing)
        KNOWN.verify(chain, NOW)
        begin = time.perf_counter()
        for _ in range(100):
            KNOWN.verify(chain, NOW)
        # 0.5 ms on the machine it was written on; the bound leaves room for a busy one.
        assert (time.perf_counter() - begin) / 100 < 0.01


class TestWhoItNames:
    @pytest.mark.parametrize(
        ("form", "names", "expected"),
        [
            ("upn", [principal("Alice@corp.example")], ("alice@corp.example", "alice")),
            ("upn", [principal("alice@other.example")], ("alice@other.example",)),
            ("upn", [principal("alice@evil@corp.example")], ("alice@evil@corp.example",)),
            ("upn", [principal("@corp.example")], ("@corp.example",)),
            ("mail", [x509.RFC822Name("alice@corp.example")], ("alice@corp.example", "alice")),
            ("dns", [x509.DNSName("alice.corp.example")], ("alice.corp.example", "alice")),
            ("dns", [x509.DNSName("a.b.corp.example")], ("a.b.corp.example",)),
            ("cn", [], ("alice adams",)),
            ("upn", [principal("alice"), principal("ALICE")], ("alice",)),
        ],
    )
    def test_user(self, form: str, names: list[x509.GeneralName], expected: tuple[str, ...]) -> None:
        known = authorities(trusted(CORP.root, CORP.issuing, user_from=form))
        assert accepted(known=known, names=names).user_names == expected

    @pytest.mark.parametrize(
        ("form", "names", "expected"),
        [
            ("dns", [x509.DNSName("Laptop.corp.example")], ("laptop.corp.example", "laptop")),
            ("dns", [x509.DNSName("laptop.evil.example")], ("laptop.evil.example",)),
            ("dns", [x509.DNSName("laptop.corp.example.evil")], ("laptop.corp.example.evil",)),
            ("cn", [], ("alice adams",)),
        ],
    )
    def test_device(self, form: str, names: list[x509.GeneralName], expected: tuple[str, ...]) -> None:
        known = authorities(trusted(CORP.root, CORP.issuing, user_from=None, device_from=form))
        client = accepted(known=known, names=names)
        assert (client.names_user, client.device_names) == (False, expected)

    def test_device_by_its_id(self) -> None:
        known = authorities(trusted(CORP.root, CORP.issuing, user_from=None, device_from="uri"))
        other = x509.UniformResourceIdentifier("https://corp.example/")
        client = accepted(known=known, names=[x509.UniformResourceIdentifier(f"urn:uuid:{DEVICE_ID}"), other])
        assert (client.device_id, client.device_names) == (DEVICE_ID, ())

    def test_no_device_of_ours_unless_the_operator_says_so(self) -> None:
        uri = x509.UniformResourceIdentifier(f"urn:uuid:{DEVICE_ID}")
        assert accepted(names=[uri, principal("alice@corp.example")]).device_id == ""

    def test_a_user_certificate_may_lack_the_device(self) -> None:
        known = authorities(trusted(CORP.root, CORP.issuing, device_from="dns"))
        client = accepted(known=known)
        assert (client.user_names[-1], client.device_names) == ("alice", ())

    @pytest.mark.parametrize(
        ("settings", "names"),
        [
            ({}, []),
            ({}, [x509.RFC822Name("alice@corp.example")]),
            ({}, [principal("alice@corp.example"), principal("bob@corp.example")]),
            ({"user_from": None, "device_from": "dns"}, []),
            ({"device_from": "dns"}, [principal("a"), x509.DNSName("a.example"), x509.DNSName("b.example")]),
            ({"user_from": None, "device_from": "uri"}, [x509.UniformResourceIdentifier("https://corp.example")]),
            ({"user_from": None, "device_from": "uri"}, [x509.UniformResourceIdentifier("urn:uuid:none")]),
        ],
        ids=["nobody", "another-form", "two-users", "no-device", "two-devices", "no-uuid-uri", "bad-uuid"],
    )
    def test_refuses_what_names_nobody_or_several(
        self, settings: dict[str, Any], names: list[x509.GeneralName]
    ) -> None:
        known = authorities(trusted(CORP.root, CORP.issuing, **settings))
        assert refusal(der(user_certificate(CORP.issuing, names=names)), known).code == "wrong-usage"

    @given(st.text(max_size=40))
    def test_own_names_are_bounded_and_in_lower_case(self, text: str) -> None:
        found = own_names(text, ("corp.example", "example"))
        assert len(found) <= 3
        assert all(one == one.lower() and one.isprintable() for one in found)


class TestPath:
    def test_refuses_a_stranger(self) -> None:
        stranger = Company("Stranger")
        refused = refusal(der(user_certificate(stranger.issuing), stranger.issuing, stranger.root))
        assert refused.code == "untrusted-certificate"
        assert "none of the trusted authorities" in refused.reason

    def test_refuses_a_self_signed_one(self) -> None:
        own = self_signed("alice")
        assert refusal(der(own)).code == "untrusted-certificate"

    def test_refuses_names_of_ours_under_another_key(self) -> None:
        fake_root = Signer(CORP.root.certificate, ec.generate_private_key(ec.SECP256R1()))
        fake = fake_root.ca("Corporate Issuing", 0)
        refused = refusal(der(user_certificate(fake), fake))
        assert (refused.code, "no path to a root of corporate" in refused.reason) == ("untrusted-certificate", True)

    def test_refuses_below_a_user(self) -> None:
        user = user_certificate(CORP.issuing, common_name="mallory")
        signer = Signer(user, self_signed("x").key)
        assert refusal(der(user_certificate(signer), user)).code == "untrusted-certificate"

    @pytest.mark.parametrize(
        "extensions",
        [
            [(key_usage(key_cert_sign=True), True)],
            [(x509.BasicConstraints(ca=False, path_length=None), True), (key_usage(key_cert_sign=True), True)],
            [(x509.BasicConstraints(ca=True, path_length=None), True)],
            [(x509.BasicConstraints(ca=True, path_length=None), True), (key_usage(crl_sign=True), True)],
            [*ca_extensions(None), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
            [
                *ca_extensions(None),
                (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
            ],
            [*ca_extensions(None), (x509.InhibitAnyPolicy(0), True)],
        ],
        ids=["no-constraints", "no-ca", "no-usage", "no-cert-sign", "server-ca", "unknown-critical", "any-policy"],
    )
    def test_refuses_a_ca_that_may_not_sign_clients(self, extensions: list[Extension]) -> None:
        ca = ca_below(CORP.root, "Odd", *extensions)
        assert refusal(der(user_certificate(ca), ca)).code == "untrusted-certificate"

    def test_takes_a_ca_for_clients_only(self) -> None:
        ca = ca_below(CORP.root, "Clients", *ca_extensions(0), CLIENT_AUTH)
        assert KNOWN.verify(der(user_certificate(ca), ca), NOW).user_names

    def test_refuses_beyond_the_path_length(self) -> None:
        below = CORP.issuing.ca("Below", None)
        assert refusal(der(user_certificate(below), below)).code == "untrusted-certificate"

    def test_refuses_a_longer_path_than_any_company_has(self) -> None:
        cas = [CORP.root.ca("CA 0")]
        for number in range(1, MOST_INTERMEDIATES + 1):
            cas.append(cas[-1].ca(f"CA {number}"))
        longest = cas[:MOST_INTERMEDIATES]
        assert KNOWN.verify(der(user_certificate(longest[-1]), *longest), NOW)
        assert refusal(der(user_certificate(cas[-1]), *cas)).code == "untrusted-certificate"

    def test_tells_what_only_its_dates_keep_out(self) -> None:
        chain = der(user_certificate(CORP.issuing), CORP.issuing)
        assert refusal(chain, now=NOW + 2 * DAY).code == "expired-certificate"
        assert refusal(chain, now=NOW - 2 * DAY).code == "not-yet-valid-certificate"
        stranger = Company("Stranger")
        assert refusal(der(user_certificate(stranger.issuing)), now=NOW + 2 * DAY).code == "untrusted-certificate"

    def test_refuses_below_an_expired_ca(self) -> None:
        old = CORP.root.ca("Old", 0, begin=NOW - 9 * DAY, end=NOW - DAY)
        assert refusal(der(user_certificate(old), old)).code == "untrusted-certificate"

    def test_refuses_a_weak_ca(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        weak = CORP.root.certify(name("Weak"), key.public_key(), ca_extensions(0))
        certificate = certify(
            weak.subject, key, name("alice"), self_signed("x").key.public_key(), [], begin=NOW - DAY, end=NOW + DAY
        )
        assert refusal(der(certificate, weak)).code == "untrusted-certificate"


class TestNameConstraints:
    @staticmethod
    def narrow(
        permitted: list[x509.GeneralName] | None = None,
        excluded: list[x509.GeneralName] | None = None,
        *,
        critical: bool = True,
    ) -> Signer:
        constraints = x509.NameConstraints(permitted, excluded)
        return ca_below(CORP.root, "Narrow", *ca_extensions(0), (constraints, critical))

    @pytest.mark.parametrize(
        "names",
        [
            [x509.RFC822Name("alice@corp.example")],
            [x509.RFC822Name("alice@CORP.Example")],
            [x509.DNSName("laptop.CORP.example"), x509.RFC822Name("alice@corp.example")],
        ],
    )
    def test_inside(self, names: list[x509.GeneralName]) -> None:
        ca = self.narrow([x509.RFC822Name("corp.example"), x509.DNSName("corp.example")])
        known = authorities(trusted(CORP.root, user_from="mail"))
        assert known.verify(der(user_certificate(ca, names=names), ca), NOW).user_names[-1] == "alice"

    @pytest.mark.parametrize(
        "names",
        [
            [x509.RFC822Name("alice@evil.example")],
            [x509.RFC822Name("alice@corp.example.evil")],
            [x509.RFC822Name("alice@corp.example"), x509.DNSName("laptop.evil.example")],
        ],
    )
    def test_outside(self, names: list[x509.GeneralName]) -> None:
        ca = self.narrow([x509.RFC822Name("corp.example"), x509.DNSName("corp.example")])
        known = authorities(trusted(CORP.root, user_from="mail"))
        assert refusal(der(user_certificate(ca, names=names), ca), known).code == "untrusted-certificate"

    def test_excluded_whatever_the_case(self) -> None:
        ca = self.narrow(excluded=[x509.RFC822Name("board.corp.example")])
        known = authorities(trusted(CORP.root, user_from="mail"))
        names = [x509.RFC822Name("alice@BOARD.corp.example")]
        assert refusal(der(user_certificate(ca, names=names), ca), known).code == "untrusted-certificate"

    def test_of_the_root_count_too(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        own = name("Narrow Root")
        constraints = x509.NameConstraints([x509.RFC822Name("corp.example")], None)
        extensions = [*ca_extensions(None), (constraints, True)]
        certificate = certify(own, key, own, key.public_key(), extensions, begin=NOW - DAY, end=NOW + DAY)
        root = Signer(certificate, key)
        known = authorities(trusted(root, user_from="mail"))
        outside = user_certificate(root, names=[x509.RFC822Name("alice@evil.example")])
        inside = user_certificate(root, names=[x509.RFC822Name("alice@corp.example")])
        assert refusal(der(outside), known).code == "untrusted-certificate"
        assert known.verify(der(inside), NOW)

    @pytest.mark.parametrize("critical", [True, False])
    @pytest.mark.parametrize(
        "form",
        [
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")])),
            x509.UniformResourceIdentifier("corp.example"),
            principal("@corp.example"),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        ],
        ids=["directory", "uri", "principal", "registered"],
    )
    def test_of_other_forms_refuse_everything(self, form: x509.GeneralName, critical: bool) -> None:
        names = [x509.RFC822Name("alice@corp.example")]
        known = authorities(trusted(CORP.root, user_from="mail"))
        for ca in (self.narrow([form], critical=critical), self.narrow(excluded=[form], critical=critical)):
            assert refusal(der(user_certificate(ca, names=names), ca), known).code == "untrusted-certificate"

    def test_a_common_name_below_them_is_nobody(self) -> None:
        """No constraint on mail addresses and host names binds it."""
        ca = self.narrow([x509.RFC822Name("corp.example")])
        certificate = user_certificate(ca, common_name="root@evil.example", names=[x509.RFC822Name("a@corp.example")])
        client = authorities(trusted(CORP.root, user_from="mail")).verify(der(certificate, ca), NOW)
        assert client.identities == ("a@corp.example",)
        known = authorities(trusted(CORP.root, user_from="cn"))
        assert refusal(der(certificate, ca), known).code == "wrong-usage"


class TestUsage:
    @pytest.mark.parametrize(
        "usual",
        [
            [(x509.BasicConstraints(ca=True, path_length=None), True), SIGNS, CLIENT_AUTH],
            [(key_usage(digital_signature=True, key_cert_sign=True), True), CLIENT_AUTH],
            [(key_usage(key_encipherment=True), True), CLIENT_AUTH],
            [SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
            [SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)],
            [SIGNS, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
            [SIGNS, (x509.NameConstraints([x509.DNSName("example.com")], None), True)],
        ],
        ids=["ca", "cert-sign", "no-signature", "server", "code", "unknown-critical", "constraints"],
    )
    def test_refuses_what_is_not_for_clients(self, usual: list[Extension]) -> None:
        assert refusal(der(user_certificate(CORP.issuing, usual=usual))).code == "wrong-usage"

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024).public_key(),
            rsa.generate_private_key(3, 2048).public_key(),
            ec.generate_private_key(ec.SECP256K1()).public_key(),
        ],
    )
    def test_refuses_weak_keys(self, key: Any) -> None:
        assert refusal(der(user_certificate(CORP.issuing, public_key=key))).code == "weak-key"


class TestHostileChains:
    @staticmethod
    def costly(count: int, key: Any, algorithm: hashes.SHA512) -> list[x509.Certificate]:
        """CAs that all claim to have issued each other, each with right signatures: many orders to try."""
        made = []
        for number in range(count):
            builder = x509.CertificateBuilder(
                name(f"Loop {(number + 1) % 2}"), name(f"Loop {number % 2}"), key.public_key(), number + 1
            )
            builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
            for extension, critical in ca_extensions(None):
                builder = builder.add_extension(extension, critical)
            made.append(builder.sign(key, algorithm))
        return made

    @pytest.mark.parametrize("kind", ["p521", "rsa"])
    def test_cost_no_more_than_a_few_signatures(self, kind: str) -> None:
        key: Any = (
            ec.generate_private_key(ec.SECP521R1()) if kind == "p521" else rsa.generate_private_key(65537, 4096)
        )
        loop = self.costly(MAXIMUM_CERTIFICATES - 1, key, hashes.SHA512())
        certificate = certify(
            name("Loop 0"),
            key,
            name("mallory"),
            self_signed("x").key.public_key(),
            [],
            begin=NOW - DAY,
            end=NOW + DAY,
        )
        chain = der(certificate, *loop)
        begin = time.perf_counter()
        assert refusal(chain).code == "untrusted-certificate"
        # Without the selection, the library would go through its 128 signatures: a tenth of a second with P-521.
        assert time.perf_counter() - begin < 0.05

    def test_only_a_few_are_taken_each_name_once_and_no_roots(self) -> None:
        cas = [CORP.root.ca(f"CA {number}") for number in range(6)]
        again = CORP.root.ca("CA 0")
        weak = CORP.root.certify(name("weak"), rsa.generate_private_key(65537, 1024).public_key(), ca_extensions(0))
        huge = CORP.root.certify(name("huge"), rsa.RSAPublicNumbers(2**2040 + 1, 2**2047 + 1).public_key(), [])
        usable = usable_intermediates([b"", *der(CORP.root, weak, huge, cas[0], again, *cas[1:])])
        assert [ca.subject for ca in usable] == [ca.certificate.subject for ca in cas[:MOST_INTERMEDIATES]]
        assert usable[0] == cas[0].certificate

    def test_bounds_number_and_size(self) -> None:
        good = der(user_certificate(CORP.issuing))
        assert refusal([]).code == "malformed-certificate"
        assert refusal(good * (MAXIMUM_CERTIFICATES + 1)).code == "malformed-certificate"
        assert refusal([bytes(16_385)]).code == "malformed-certificate"
        assert refusal([*good, *[bytes(16_000)] * 5]).code == "malformed-certificate"

    def test_every_truncation(self) -> None:
        [good] = der(user_certificate(CORP.issuing))
        for length in range(len(good)):
            assert refusal([good[:length]]).code == "malformed-certificate"

    def test_mutations_raise_nothing_else(self) -> None:
        source = random.Random(3)
        original = user_certificate(CORP.issuing, names=[principal("alice@corp.example"), x509.DNSName("a.b")])
        codes: set[str] = set()
        for _ in range(1500):
            body = bytearray(original.tbs_certificate_bytes)
            for _ in range(source.choice((1, 1, 2))):
                at = source.randrange(len(body))
                body[at] = source.randrange(256)
            # Signed anew, so that the mutation comes to the code behind the signature check.
            mutated = CORP.issuing.sign_bytes(bytes(body))
            try:
                KNOWN.verify([mutated], NOW)
            except CertificateRefused as error:
                codes.add(error.code)
            else:
                codes.add("accepted")
        assert codes >= {"accepted", "malformed-certificate", "untrusted-certificate"}

    @given(st.lists(st.binary(max_size=100), max_size=9))
    @hypothesis_settings(max_examples=100, deadline=None)
    def test_any_bytes(self, chain: list[bytes]) -> None:
        assert refusal(chain).code == "malformed-certificate"
