from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pki.revocation.crl import CheckedCrl, check_crl, look_up
from pki.revocation.evidence import CLOCK_SKEW, Evidence, NotUsable, OtherIssuer
from tests.unit.pki.foreign_forge import Company, ca_below, points, user_certificate
from tests.unit.pki.forge import DAY, NOW, Extension, Signer, der_tlv, key_usage, name, self_signed
from tests.unit.pki.revocation.responder import HOUR, crl, scope

CORP = Company()
URL = "http://pki.corp.example/issuing.crl"
ALICE = user_certificate(CORP.issuing, points(URL))
SERIAL = ALICE.serial_number


def check(der: bytes, issuer: Signer = CORP.issuing) -> CheckedCrl:
    return check_crl(der, issuer.certificate, NOW)


def refusal(der: bytes, issuer: Signer = CORP.issuing) -> str:
    with pytest.raises(NotUsable) as caught:
        check(der, issuer)
    return caught.value.message


def find(der: bytes, certificate: x509.Certificate = ALICE) -> Evidence:
    return look_up(check(der), certificate, NOW)


class TestLists:
    def test_not_in_it_is_good(self) -> None:
        evidence = find(crl(CORP.issuing, [SERIAL + 1]))
        assert (evidence.revoked, evidence.source, evidence.this_update) == (False, "CRL", NOW - HOUR)
        assert evidence.expires_at == NOW + HOUR + CLOCK_SKEW

    @pytest.mark.parametrize(
        ("reason", "final", "shown"),
        [
            (None, True, ""),
            (x509.ReasonFlags.cessation_of_operation, True, "(cessationOfOperation)"),
            (x509.ReasonFlags.certificate_hold, False, "(certificateHold)"),
        ],
    )
    def test_in_it_is_revoked(self, reason: x509.ReasonFlags | None, final: bool, shown: str) -> None:
        evidence = find(crl(CORP.issuing, [1, SERIAL, 2], reason=reason))
        assert (evidence.revoked, evidence.final) == (True, final)
        assert evidence.detail == f"at 2026-05-31 12:00 UTC {shown}".strip()

    def test_size_is_told(self) -> None:
        der = crl(CORP.issuing, range(1, 100))
        assert check(der).size_bytes == len(der)

    def test_a_large_one_is_looked_through_quickly(self) -> None:
        der = crl(CORP.issuing, range(10**30, 10**30 + 20_000))
        begin = time.perf_counter()
        checked = check(der)
        assert not look_up(checked, ALICE, NOW).revoked
        # 12 ms on the machine it was written on, for 700 kB.
        assert time.perf_counter() - begin < 0.5

    def test_one_that_has_ended_since_says_nothing(self) -> None:
        checked = check(crl(CORP.issuing))
        with pytest.raises(NotUsable, match="has ended"):
            look_up(checked, ALICE, NOW + HOUR + CLOCK_SKEW + timedelta(seconds=1))


class TestScope:
    @pytest.mark.parametrize(
        "extension",
        [
            scope(only_contains_user_certs=True),
            scope(full_name=[x509.UniformResourceIdentifier(URL)]),
            scope(
                full_name=[x509.UniformResourceIdentifier("ldap://x"), x509.UniformResourceIdentifier(URL)],
                only_contains_user_certs=True,
            ),
        ],
    )
    def test_about_this_certificate(self, extension: Extension) -> None:
        assert not find(crl(CORP.issuing, [], extension)).revoked
        assert find(crl(CORP.issuing, [SERIAL], extension)).revoked

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            (scope(only_contains_ca_certs=True), "CAs only"),
            (
                scope(full_name=[x509.UniformResourceIdentifier("http://pki.corp.example/2.crl")]),
                "other certificates",
            ),
        ],
    )
    def test_about_others(self, extension: Extension, message: str) -> None:
        with pytest.raises(NotUsable, match=message):
            find(crl(CORP.issuing, [], extension))

    def test_about_users_says_nothing_about_a_ca(self) -> None:
        checked = check(crl(CORP.root, [], scope(only_contains_user_certs=True)), CORP.root)
        with pytest.raises(NotUsable, match="not about CAs"):
            look_up(checked, CORP.issuing.certificate, NOW)

    def test_one_part_of_several_says_nothing_about_a_certificate_without_a_point(self) -> None:
        partial = crl(CORP.issuing, [], scope(full_name=[x509.UniformResourceIdentifier(URL)]))
        with pytest.raises(NotUsable, match="other certificates"):
            find(partial, user_certificate(CORP.issuing))

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            (scope(indirect_crl=True), "indirect"),
            (scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})), "some reasons"),
            (scope(only_contains_attribute_certs=True), "attribute"),
            (
                scope(relative_name=x509.RelativeDistinguishedName(list(name("part 1")))),
                "form that is not known",
            ),
            ((x509.DeltaCRLIndicator(3), True), "delta"),
            ((x509.DeltaCRLIndicator(3), False), "delta"),
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True), "1.2.3.4"),
        ],
        ids=["indirect", "reasons", "attribute", "relative", "delta", "delta-not-critical", "unknown"],
    )
    def test_not_taken_at_all(self, extension: Extension, message: str) -> None:
        assert message in refusal(crl(CORP.issuing, [], extension))


class TestWrongSigners:
    def test_another_ca(self) -> None:
        with pytest.raises(OtherIssuer):
            check(crl(CORP.root))
        with pytest.raises(OtherIssuer):
            check(crl(self_signed("Stranger")))

    def test_another_key_under_its_name(self) -> None:
        assert "signature" in refusal(crl(CORP.issuing, key=ec.generate_private_key(ec.SECP256R1())))

    def test_a_user_of_the_ca(self) -> None:
        assert "signature" in refusal(crl(CORP.issuing, key=self_signed("x").key))

    def test_a_ca_that_may_not(self) -> None:
        extensions: list[Extension] = [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (key_usage(key_cert_sign=True), True),
        ]
        ca = ca_below(CORP.root, "Certificates only", *extensions)
        assert "cRLSign" in refusal(crl(ca), ca)

    def test_a_ca_without_key_usage_may(self) -> None:
        ca = ca_below(CORP.root, "Old", (x509.BasicConstraints(ca=True, path_length=None), True))
        assert check(crl(ca), ca)


class TestDates:
    @pytest.mark.parametrize(
        ("this_update", "next_update", "message"),
        [
            (NOW - DAY, NOW - CLOCK_SKEW - timedelta(seconds=1), "ended at"),
            (NOW + CLOCK_SKEW + timedelta(seconds=1), NOW + DAY, "future"),
        ],
    )
    def test_outside(self, this_update: Any, next_update: Any, message: str) -> None:
        assert message in refusal(crl(CORP.issuing, this_update=this_update, next_update=next_update))

    def test_within_the_skew(self) -> None:
        ahead = CLOCK_SKEW - timedelta(seconds=1)
        assert check(crl(CORP.issuing, this_update=NOW - DAY, next_update=NOW - ahead))
        assert check(crl(CORP.issuing, this_update=NOW + ahead, next_update=NOW + DAY))

    def test_without_an_end(self) -> None:
        der = crl(CORP.issuing)
        end = b"\x17\x0d" + (NOW + HOUR).strftime("%y%m%d%H%M%SZ").encode()
        assert der.count(end) == 1
        content = x509.load_der_x509_crl(der).tbs_certlist_bytes[2:]  # after tag and a length of one byte
        without = CORP.issuing.sign_bytes(der_tlv(0x30, content.replace(end, b"")))
        assert "next one" in refusal(without)


class TestHostileBytes:
    def test_every_truncation_and_trailing_bytes(self) -> None:
        der = crl(CORP.issuing, [SERIAL])
        for length in range(len(der)):
            refusal(der[:length])
        refusal(der + b"\0")

    def test_mutations_are_never_believed(self) -> None:
        source = random.Random(5)
        der = crl(CORP.issuing, [1, SERIAL, 3], scope(only_contains_user_certs=True))
        for _ in range(3000):
            mutated = bytearray(der)
            for _ in range(source.choice((1, 1, 2, 4))):
                mutated[source.randrange(len(mutated))] = source.randrange(256)
            if bytes(mutated) != der:
                refusal(bytes(mutated))

    def test_mutations_that_are_signed_raise_nothing_else(self) -> None:
        source = random.Random(6)
        body = x509.load_der_x509_crl(
            crl(CORP.issuing, [1, SERIAL], scope(only_contains_user_certs=True), reason=x509.ReasonFlags.superseded)
        ).tbs_certlist_bytes
        seen: set[bool | None] = set()
        for _ in range(2000):
            mutated = bytearray(body)
            mutated[source.randrange(len(mutated))] = source.randrange(256)
            try:
                seen.add(find(CORP.issuing.sign_bytes(bytes(mutated))).revoked)
            except NotUsable:
                seen.add(None)
        assert seen == {True, False, None}

    @given(st.binary(max_size=300))
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        refusal(data)
