from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pki.revocation.evidence import CLOCK_SKEW, NotKnown, NotUsable, check_dates
from pki.revocation.ocsp import (
    LARGEST_RESPONSE_BYTES,
    LONGEST_WITHOUT_END,
    OcspAnswer,
    check_ocsp_response,
    ocsp_request,
)
from tests.unit.pki.foreign_forge import Company, user_certificate
from tests.unit.pki.forge import DAY, NOW, Signer, ca_extensions, certify, key_usage, name, self_signed
from tests.unit.pki.revocation.responder import HOUR, NO_CHECK, OCSP_SIGNING, delegate, ocsp_response

CORP = Company()
ALICE = user_certificate(CORP.issuing)
DELEGATE = delegate(CORP.issuing)
NONCE = b"0123456789abcdef"


def check(der: bytes, **changes: Any) -> OcspAnswer:
    return check_ocsp_response(der, ALICE, CORP.issuing.certificate, NOW, **changes)


def refusal(der: bytes, **changes: Any) -> str:
    with pytest.raises(NotUsable) as caught:
        check(der, **changes)
    return caught.value.message


def respond(*arguments: Any, **changes: Any) -> bytes:
    return ocsp_response(ALICE, CORP.issuing, *arguments, **changes)


class TestRequest:
    def test_names_the_certificate_by_sha1_and_brings_a_nonce(self) -> None:
        request = ocsp.load_der_ocsp_request(ocsp_request(ALICE, CORP.issuing.certificate, NONCE))
        assert isinstance(request.hash_algorithm, hashes.SHA1)
        assert request.serial_number == ALICE.serial_number
        nonce = request.extensions.get_extension_for_class(x509.OCSPNonce)
        assert (nonce.value.nonce, nonce.critical) == (NONCE, False)


class TestAnswers:
    def test_good(self) -> None:
        answer = check(respond())
        evidence = answer.evidence
        assert (evidence.revoked, evidence.source, evidence.this_update) == (False, "OCSP", NOW - HOUR)
        assert evidence.expires_at == NOW + HOUR + CLOCK_SKEW
        assert answer.unchecked_responder is None

    @pytest.mark.parametrize(
        ("reason", "final", "shown"),
        [
            (None, True, ""),
            (x509.ReasonFlags.key_compromise, True, "(keyCompromise)"),
            (x509.ReasonFlags.certificate_hold, False, "(certificateHold)"),
        ],
    )
    def test_revoked(self, reason: x509.ReasonFlags | None, final: bool, shown: str) -> None:
        evidence = check(respond("revoked", reason=reason)).evidence
        assert (evidence.revoked, evidence.final) == (True, final)
        assert evidence.detail == f"at 2026-05-31 12:00 UTC {shown}".strip()

    def test_not_known(self) -> None:
        with pytest.raises(NotKnown):
            check(respond("unknown"))

    @pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA512()])
    def test_takes_each_hash_of_the_certid(self, algorithm: hashes.HashAlgorithm) -> None:
        assert not check(respond(certid_hash=algorithm)).evidence.revoked

    @pytest.mark.parametrize("by_name", [True, False])
    @pytest.mark.parametrize("signer", [None, DELEGATE], ids=["issuer", "delegate"])
    def test_takes_each_way_to_name_the_responder(self, signer: Signer | None, by_name: bool) -> None:
        assert check(respond(signer=signer, by_name=by_name)).unchecked_responder is None

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
        ],
        ids=["rsa", "p384", "p521"],
    )
    @pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
    def test_takes_each_strong_signature(self, key: Any, algorithm: Any) -> None:
        ca = _ca_with_key(key)
        alice = user_certificate(ca)
        der = ocsp_response(alice, ca, algorithm=algorithm)
        assert not check_ocsp_response(der, alice, ca.certificate, NOW).evidence.revoked

    def test_takes_ed25519(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        extensions = (OCSP_SIGNING, NO_CHECK)
        certificate = CORP.issuing.certify(name("Responder"), key.public_key(), extensions)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                ALICE, CORP.issuing.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + HOUR, None, None
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
            .certificates([certificate])
        )
        assert not check(builder.sign(key, None).public_bytes(Encoding.DER)).evidence.revoked

    def test_a_delegate_without_nocheck_is_told(self) -> None:
        signer = delegate(CORP.issuing, OCSP_SIGNING)
        assert check(respond(signer=signer)).unchecked_responder == signer.certificate

    def test_a_nonce_is_repeated_or_left_out(self) -> None:
        assert check(respond(nonce=NONCE), nonce=NONCE)
        assert check(respond(nonce=NONCE, critical_nonce=True), nonce=NONCE)
        assert check(respond(), nonce=NONCE)
        assert check(respond(nonce=NONCE))
        assert "another request" in refusal(respond(nonce=NONCE[::-1]), nonce=NONCE)


class TestDates:
    def test_within_the_skew(self) -> None:
        ahead = CLOCK_SKEW - timedelta(seconds=1)
        assert check(respond(this_update=NOW, next_update=NOW - ahead + ahead))
        assert check(respond(this_update=NOW - DAY, next_update=NOW - ahead))
        der = ocsp_response(ALICE, CORP.issuing, this_update=NOW + ahead, next_update=NOW + DAY)
        assert check(der)

    @pytest.mark.parametrize(
        ("this_update", "next_update", "message"),
        [
            (NOW - DAY, NOW - CLOCK_SKEW - timedelta(seconds=1), "ended at"),
            (NOW - 400 * DAY, NOW - 399 * DAY, "ended at"),
            (NOW + CLOCK_SKEW + timedelta(seconds=1), NOW + DAY, "future"),
            (NOW - LONGEST_WITHOUT_END - CLOCK_SKEW - timedelta(seconds=1), None, "ended at"),
        ],
        ids=["expired", "long-expired", "future", "without-end"],
    )
    def test_outside(self, this_update: Any, next_update: Any, message: str) -> None:
        assert message in refusal(respond(this_update=this_update, next_update=next_update))

    def test_backwards(self) -> None:
        with pytest.raises(NotUsable, match="ends before it begins"):
            check_dates(NOW - HOUR, NOW - 2 * HOUR, NOW)

    def test_without_an_end_it_counts_for_an_hour(self) -> None:
        evidence = check(respond(this_update=NOW, next_update=None)).evidence
        assert evidence.expires_at == NOW + LONGEST_WITHOUT_END + CLOCK_SKEW


class TestWrongSigners:
    def test_a_stranger(self) -> None:
        stranger = self_signed("Stranger")
        assert "neither the CA nor" in refusal(respond(signer=stranger, with_certificates=[]))
        assert "did not issue" in refusal(respond(signer=stranger))

    def test_a_stranger_under_the_name_of_the_ca(self) -> None:
        stranger = self_signed("Corporate Issuing")
        assert "signature" in refusal(respond(signer=stranger, by_name=True))
        assert "did not issue" in refusal(respond(signer=stranger, by_name=False))

    def test_a_delegate_of_another_ca(self) -> None:
        other = CORP.root.ca("Other Issuing", 0)
        assert "did not issue" in refusal(respond(signer=delegate(other)))
        assert "did not issue" in refusal(respond(signer=delegate(CORP.root)))

    def test_a_user_of_the_same_ca(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        user = Signer(user_certificate(CORP.issuing, public_key=key.public_key()), key)
        assert "OCSPSigning" in refusal(respond(signer=user))

    @pytest.mark.parametrize(
        ("extensions", "message"),
        [
            ([NO_CHECK], "OCSPSigning"),
            ([OCSP_SIGNING, (key_usage(key_cert_sign=True), True)], "digitalSignature"),
        ],
    )
    def test_a_delegate_that_may_not(self, extensions: Any, message: str) -> None:
        assert message in refusal(respond(signer=delegate(CORP.issuing, *extensions)))

    def test_a_delegate_that_is_out_of_date(self) -> None:
        for dates in ({"begin": NOW - 2 * DAY, "end": NOW - DAY}, {"begin": NOW + DAY, "end": NOW + 2 * DAY}):
            assert "out of date" in refusal(respond(signer=delegate(CORP.issuing, **dates)))

    def test_the_certificate_of_another_delegate_of_the_same_name(self) -> None:
        other = delegate(CORP.issuing)
        der = respond(signer=other, by_name=True, with_certificates=[DELEGATE.certificate])
        assert "signature" in refusal(der)

    def test_a_delegate_behind_too_many_others(self) -> None:
        crowd = [delegate(CORP.issuing).certificate for _ in range(4)]
        assert check(respond(signer=DELEGATE, with_certificates=[*crowd[:3], DELEGATE.certificate]))
        assert "neither" in refusal(respond(signer=DELEGATE, with_certificates=[*crowd, DELEGATE.certificate]))

    def test_a_weak_key(self) -> None:
        ca = _ca_with_key(rsa.generate_private_key(65537, 1024))
        alice = user_certificate(ca)
        with pytest.raises(NotUsable, match="weak key"):
            check_ocsp_response(ocsp_response(alice, ca), alice, ca.certificate, NOW)


class TestOtherResponses:
    @pytest.mark.parametrize(
        "status", [status for status in ocsp.OCSPResponseStatus if status.value], ids=lambda status: status.name
    )
    def test_unsuccessful(self, status: ocsp.OCSPResponseStatus) -> None:
        der = ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
        assert status.name.lower() in refusal(der)

    def test_about_another_serial_number(self) -> None:
        other = user_certificate(CORP.issuing, serial=99)
        assert "another certificate" in refusal(ocsp_response(other, CORP.issuing))

    def test_about_the_same_number_of_another_ca(self) -> None:
        other = CORP.root.ca("Other Issuing", 0)
        assert "another certificate" in refusal(respond(certid_issuer=other.certificate))
        # Of the same name: the hash of the key tells them apart.
        namesake = CORP.root.ca("Corporate Issuing", 0)
        assert "another certificate" in refusal(respond(certid_issuer=namesake.certificate))

    def test_too_large(self) -> None:
        assert "too large" in refusal(respond() + bytes(LARGEST_RESPONSE_BYTES))

    def test_an_unknown_critical_extension(self) -> None:
        body = respond(nonce=NONCE, critical_nonce=True)
        # The object identifier of the nonce becomes that of something that nobody knows; the signature is then
        # wrong, and it is the extension that is complained about only with a right one.
        nonce_oid = bytes.fromhex("2b0601050507300102")
        assert body.count(nonce_oid) == 1
        assert "signature" in refusal(body.replace(nonce_oid, bytes.fromhex("2b0601050507300103")))


class TestHostileBytes:
    def test_every_truncation_and_trailing_bytes(self) -> None:
        der = respond(signer=DELEGATE, nonce=NONCE)
        for length in range(len(der)):
            refusal(der[:length])
        refusal(der + b"\0")

    def test_mutations_are_never_believed(self) -> None:
        source = random.Random(4)
        der = respond("revoked", signer=DELEGATE)
        believed = check(der)
        for _ in range(3000):
            mutated = bytearray(der)
            for _ in range(source.choice((1, 1, 2, 4))):
                mutated[source.randrange(len(mutated))] = source.randrange(256)
            try:
                # What stands outside the signature (the certificates) may change without harm.
                assert check(bytes(mutated)).evidence == believed.evidence
            except NotUsable:
                continue

    @given(st.binary(max_size=300))
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        refusal(data)


def _ca_with_key(key: Any) -> Signer:
    own = name("CA")
    certificate = certify(own, key, own, key.public_key(), ca_extensions(None), begin=NOW - DAY, end=NOW + DAY)
    return Signer(certificate, key)
