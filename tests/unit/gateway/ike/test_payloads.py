"""Each payload's codec: round trip, every truncation, lengths that lie, and nothing but the one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import AuthMethod, CertEncoding, CfgAttribute, CfgType, IdType, NotifyType, ProtocolId
from gateway.ike.errors import InvalidSyntax
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.auth_methods import Announcement, announcements_to_bytes, parse_announcements
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from gateway.ike.payloads.configuration import MAX_ATTRIBUTES, Configuration, ConfigurationAttribute
from gateway.ike.payloads.delete import MAX_SPIS, Delete
from gateway.ike.payloads.identification import MAX_IDENTITY_BYTES, Identification
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.ppk import find_ppk, ppk_identity


class Codec(Protocol):
    """What all payloads have."""

    def to_bytes(self) -> bytes:
        """Encode."""


bytes_ = st.binary(min_size=1, max_size=80)
auths = st.builds(Auth, st.integers(0, 255), bytes_)
certificates = st.builds(Certificate, st.integers(0, 255), bytes_)
exchanges = st.builds(KeyExchange, st.integers(0, 65535), bytes_)
notifies = st.builds(
    Notify, st.integers(0, 65535), st.binary(max_size=60), st.integers(0, 255), st.binary(max_size=20)
)
deletes = st.one_of(
    st.just(Delete(ProtocolId.IKE)),
    st.builds(
        Delete,
        st.sampled_from([ProtocolId.AH, ProtocolId.ESP]),
        st.lists(st.binary(min_size=4, max_size=4), max_size=MAX_SPIS).map(tuple),
    ),
)
configurations = st.builds(
    Configuration,
    st.integers(0, 255),
    st.lists(
        st.builds(ConfigurationAttribute, st.integers(0, 0x7FFF), st.binary(max_size=20)), max_size=MAX_ATTRIBUTES
    ).map(tuple),
)
identities = st.one_of(
    st.builds(Identification, st.just(int(IdType.IPV4_ADDR)), st.binary(min_size=4, max_size=4)),
    st.builds(Identification, st.just(int(IdType.IPV6_ADDR)), st.binary(min_size=16, max_size=16)),
    st.builds(Identification, st.sampled_from([2, 3, 9, 10, 11, 12, 200]), bytes_),
)
certificate_requests = st.builds(
    CertificateRequest,
    st.sampled_from([CertEncoding.X509_SIGNATURE, CertEncoding.OCSP_CONTENT]),
    st.lists(st.binary(min_size=20, max_size=20), max_size=5).map(tuple),
)
PARSERS: list[tuple[Callable[[bytes], Codec], st.SearchStrategy[Codec]]] = [
    (Auth.parse, auths),
    (Certificate.parse, certificates),
    (CertificateRequest.parse, certificate_requests),
    (KeyExchange.parse, exchanges),
    (Notify.parse, notifies),
    (Delete.parse, deletes),
    (Configuration.parse, configurations),
    (Identification.parse, identities),
]
names = [parse.__qualname__ for parse, _ in PARSERS]


@pytest.mark.parametrize(("parse", "values"), PARSERS, ids=names)
@given(data=st.data())
def test_round_trip(parse: Callable[[bytes], Codec], values: st.SearchStrategy[Codec], data: st.DataObject) -> None:
    value = data.draw(values)
    assert parse(value.to_bytes()) == value


@pytest.mark.parametrize(("parse", "values"), PARSERS, ids=names)
@given(data=st.data())
def test_a_truncation_is_invalid_or_another_valid_value(
    parse: Callable[[bytes], Codec], values: st.SearchStrategy[Codec], data: st.DataObject
) -> None:
    encoded = data.draw(values).to_bytes()
    for size in range(len(encoded)):
        try:
            shorter = parse(encoded[:size])
        except InvalidSyntax:
            continue
        # Open-ended data has no length of its own: what is left must be read as it stands.
        assert shorter.to_bytes() == encoded[:size]


@pytest.mark.parametrize(("parse", "values"), PARSERS, ids=names)
@given(body=st.binary(max_size=120))
def test_whatever_comes_it_parses_or_raises_the_one_error(
    parse: Callable[[bytes], Codec], values: st.SearchStrategy[Codec], body: bytes
) -> None:
    try:
        value = parse(body)
    except InvalidSyntax:
        return
    assert parse(value.to_bytes()) == value


@pytest.mark.parametrize("parse", [parse for parse, _ in PARSERS], ids=names)
def test_nothing_is_invalid(parse: Callable[[bytes], Codec]) -> None:
    with pytest.raises(InvalidSyntax):
        parse(b"")


class TestMinimalSizes:
    def test_auth_has_data(self) -> None:
        with pytest.raises(InvalidSyntax):
            Auth.parse(b"\x02\0\0\0")

    def test_ke_has_a_value(self) -> None:
        with pytest.raises(InvalidSyntax):
            KeyExchange.parse(b"\0\x1f\0\0")

    def test_a_certificate_has_data(self) -> None:
        with pytest.raises(InvalidSyntax):
            Certificate.parse(bytes((CertEncoding.X509_SIGNATURE,)))

    def test_an_identity_has_data(self) -> None:
        with pytest.raises(InvalidSyntax):
            Identification.parse(b"\x02\0\0\0")

    def test_an_identity_has_an_end(self) -> None:
        Identification.parse(b"\x02\0\0\0" + b"a" * MAX_IDENTITY_BYTES)
        with pytest.raises(InvalidSyntax):
            Identification.parse(b"\x02\0\0\0" + b"a" * (MAX_IDENTITY_BYTES + 1))

    @pytest.mark.parametrize(("kind", "size"), [(1, 3), (1, 5), (1, 16), (5, 4), (5, 15), (5, 17)])
    def test_an_address_has_the_size_of_its_family(self, kind: int, size: int) -> None:
        with pytest.raises(InvalidSyntax):
            Identification.parse(bytes((kind, 0, 0, 0)) + bytes(size))


class TestNotify:
    def test_an_spi_that_runs_past_the_end(self) -> None:
        with pytest.raises(InvalidSyntax):
            Notify.parse(bytes.fromhex("03050028 01020304".replace(" ", "")))

    def test_an_spi_and_data(self) -> None:
        notify = Notify.parse(bytes.fromhex("0304002c01020304aabb"))
        assert notify == Notify(NotifyType.CHILD_SA_NOT_FOUND, b"\xaa\xbb", ProtocolId.ESP, b"\x01\x02\x03\x04")

    @pytest.mark.parametrize(
        ("kind", "error", "known"),
        [(24, True, True), (16383, True, False), (12345, True, False), (16384, False, False), (40960, False, False)],
    )
    def test_errors_and_which_of_them_we_know(self, kind: int, error: bool, known: bool) -> None:
        assert Notify(kind).is_error is error
        assert Notify(kind).is_known_error is known

    def test_its_name(self) -> None:
        assert str(Notify(24)) == "AUTHENTICATION_FAILED"
        assert str(Notify(12345)) == "notify 12345"


class TestDelete:
    def test_of_an_ike_sa_names_no_spi(self) -> None:
        assert Delete.parse(bytes.fromhex("01000000")) == Delete(ProtocolId.IKE)

    @pytest.mark.parametrize(
        "body",
        [
            "01080001" + "00" * 8,  # an SPI of the IKE SA
            "01000001",  # one SPI of no bytes
            "03040002" + "00" * 4,  # one SPI less than it says
            "03040001" + "00" * 8,  # one more
            "03080001" + "00" * 8,  # an SPI of the wrong size
            "03ffffff",
            "0304ffff" + "00" * 16,
        ],
    )
    def test_sizes_that_do_not_fit(self, body: str) -> None:
        with pytest.raises(InvalidSyntax):
            Delete.parse(bytes.fromhex(body))

    def test_too_many(self) -> None:
        with pytest.raises(InvalidSyntax):
            Delete.parse(Delete(ProtocolId.ESP, (bytes(4),) * (MAX_SPIS + 1)).to_bytes())


class TestConfiguration:
    def test_the_reserved_bit_is_not_part_of_the_type(self) -> None:
        parsed = Configuration.parse(bytes.fromhex("01000000800100005ba00000"))
        assert parsed.cfg_type == CfgType.REQUEST
        assert parsed.has(CfgAttribute.INTERNAL_IP4_ADDRESS)
        assert parsed.has(CfgAttribute.MS_INTERNAL_IP4_SERVER)
        assert not parsed.has(CfgAttribute.INTERNAL_IP6_ADDRESS)

    def test_too_many_attributes(self) -> None:
        most = Configuration(1, (ConfigurationAttribute(1),) * MAX_ATTRIBUTES)
        assert Configuration.parse(most.to_bytes()) == most
        with pytest.raises(InvalidSyntax):
            Configuration.parse(most.to_bytes() + bytes(4))

    @pytest.mark.parametrize("attribute", ["0001", "000100", "00010001", "0001ffff00"])
    def test_attributes_that_do_not_fit(self, attribute: str) -> None:
        with pytest.raises(InvalidSyntax):
            Configuration.parse(b"\x01\0\0\0" + bytes.fromhex(attribute))


class TestIdentificationText:
    @pytest.mark.parametrize(
        ("identity", "text"),
        [
            (Identification(IdType.IPV4_ADDR, bytes((192, 0, 2, 1))), "192.0.2.1"),
            (Identification(IdType.IPV6_ADDR, bytes(15) + b"\x01"), "::1"),
            (Identification.fqdn("gw.example"), "gw.example"),
            (Identification(IdType.RFC822_ADDR, "jörg@example.org".encode()), "jörg@example.org"),
            (Identification(IdType.DER_ASN1_DN, b"\x30\x00"), "dn:3000"),
            (Identification(IdType.KEY_ID, b"\x01\x02"), "key-id:0102"),
            (Identification(250, b"\x01"), "key-id:01"),
        ],
    )
    def test_for_people(self, identity: Identification, text: str) -> None:
        assert str(identity) == text

    @given(st.builds(Identification, st.integers(0, 255), bytes_))
    def test_is_always_printable(self, identity: Identification) -> None:
        if identity.id_type in (IdType.IPV4_ADDR, IdType.IPV6_ADDR):
            return
        assert str(identity).isprintable()

    def test_control_characters_do_not_reach_a_terminal(self) -> None:
        assert str(Identification.fqdn("a\x1b[2J\n")) == "key-id:611b5b324a0a"


def test_a_certificate_request_is_hashes_side_by_side() -> None:
    encoded = b"\x04" + b"a" * 20 + b"b" * 20
    assert CertificateRequest(4, (b"a" * 20, b"b" * 20)).to_bytes() == encoded
    assert CertificateRequest.parse(encoded) == CertificateRequest(4, (b"a" * 20, b"b" * 20))


def test_a_certificate_request_for_ocsp_may_name_no_responder() -> None:
    assert CertificateRequest.parse(b"\x0e") == CertificateRequest(14, ())


def test_what_other_certificate_encodings_ask_for_is_not_looked_at() -> None:
    assert CertificateRequest.parse(b"\x0chttp://hash.and.url/") == CertificateRequest(12, ())


@pytest.mark.parametrize("body", [b"", b"\x04" + b"a" * 19, b"\x0e" + b"a" * 21, b"\x04" + bytes(20 * 1025)])
def test_a_certificate_request_of_no_length(body: bytes) -> None:
    with pytest.raises(InvalidSyntax):
        CertificateRequest.parse(body)


class TestAnnouncedMethods:
    """SUPPORTED_AUTH_METHODS (RFC 9593 section 3.2)."""

    LIST = (
        Announcement(AuthMethod.SHARED_KEY_MIC),
        Announcement(AuthMethod.ECDSA_256),
        Announcement(AuthMethod.DIGITAL_SIGNATURE, bytes.fromhex("300506032b6570"), 2),
    )
    ENCODED = bytes.fromhex("0202 030900 0a0e02 300506032b6570")

    def test_two_three_and_more_bytes(self) -> None:
        assert announcements_to_bytes(self.LIST) == self.ENCODED
        assert parse_announcements(self.ENCODED) == self.LIST

    def test_none_is_none(self) -> None:
        assert parse_announcements(b"") == ()

    def test_a_truncation_is_invalid_or_shorter(self) -> None:
        whole = {2, 5, len(self.ENCODED), 0}
        for size in range(len(self.ENCODED) + 1):
            if size in whole:
                assert parse_announcements(self.ENCODED[:size]) == self.LIST[: sum(size >= end for end in (2, 5, 15))]
            else:
                with pytest.raises(InvalidSyntax):
                    parse_announcements(self.ENCODED[:size])

    @pytest.mark.parametrize("data", [b"\x00\x02", b"\x01", b"\x02\x02" * 65])
    def test_lengths_and_counts_have_limits(self, data: bytes) -> None:
        with pytest.raises(InvalidSyntax):
            parse_announcements(data)

    @given(st.binary(max_size=80))
    def test_hostile_bytes(self, data: bytes) -> None:
        try:
            found = parse_announcements(data)
        except InvalidSyntax:
            return
        assert sum(2 if a.method == 2 else 3 + len(a.algorithm) for a in found) <= len(data) + len(found)


class TestPpkIdentity:
    """RFC 8784 section 5.1."""

    KEYS: ClassVar = {b"office": b"k" * 32}

    def test_by_its_name(self) -> None:
        assert ppk_identity(b"office") == b"\x02office"
        assert find_ppk(b"\x02office", self.KEYS) == b"k" * 32

    @pytest.mark.parametrize(
        "data", [b"", b"\x02", b"\x01office", b"\x02offic", b"\x02office ", b"office", b"\x03office"]
    )
    def test_nothing_else_is_found(self, data: bytes) -> None:
        assert find_ppk(data, self.KEYS) is None
