"""The choice of a suite: rule by rule, what stock clients offer, and never anything outside of policy and offer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.constants import Encr, Esn, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.errors import InvalidKePayload, NoProposalChosen
from gateway.ike.payloads.security_association import Proposal, Transform, parse_proposals, proposals_to_bytes
from gateway.ike.policy import COMPATIBLE, MODERN
from gateway.ike.proposal_text import MAX_NAMED_TRANSFORMS, describe
from gateway.ike.proposals import IkeSuite, answer_ike, choose_first_child, choose_ike
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.offers import esp_proposal, ike_proposal

SPI_IN = 0x11223344
GCM, CBC, CHACHA = (Encr.AES_GCM_16, 256), (Encr.AES_CBC, 256), (Encr.CHACHA20_POLY1305, 0)
SHA2 = [Integ.HMAC_SHA2_256_128]
PRF, GROUPS = [Prf.HMAC_SHA2_256], [Group.CURVE25519]
GOOD = ike_proposal(1, [GCM], [], PRF, GROUPS)


def suite_of(*proposals: Proposal, ke: int = Group.CURVE25519) -> str:
    """What is chosen, as text."""
    return str(choose_ike(proposals, MODERN, ke)[0])


def refusal_of(*proposals: Proposal) -> str:
    """Why nothing is chosen for an IKE SA."""
    with pytest.raises(NoProposalChosen) as caught:
        choose_ike(proposals, MODERN, Group.MODP_2048)
    return str(caught.value)


class TestIke:
    def test_our_preferences_decide_within_a_proposal(self) -> None:
        everything = ike_proposal(1, [CHACHA, (Encr.AES_GCM_16, 128), GCM], [], MODERN.prf[::-1], MODERN.groups[::-1])
        assert suite_of(everything) == "AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE25519"

    def test_the_peers_order_of_proposals_decides_between_equals(self) -> None:
        chacha = ike_proposal(2, [CHACHA], [], PRF, GROUPS)
        suite, answer, _ = choose_ike((chacha, replace(GOOD, number=3)), MODERN, Group.CURVE25519)
        assert suite.encr is Encr.CHACHA20_POLY1305
        assert answer.number == 2

    def test_an_aead_goes_before_a_cipher_with_hmac(self) -> None:
        cbc = ike_proposal(2, [CBC], SHA2, PRF, GROUPS)
        suite, answer, _ = choose_ike((cbc, replace(GOOD, number=3)), MODERN, Group.CURVE25519)
        assert suite.encr is Encr.AES_GCM_16
        assert answer.number == 3

    @pytest.mark.parametrize("group", MODERN.groups)
    def test_the_group_of_the_ke_payload_is_kept_where_it_is_acceptable(self, group: Group) -> None:
        offer = ike_proposal(1, [GCM], [], PRF, MODERN.groups)
        assert choose_ike((offer,), MODERN, group)[0].group is group

    @pytest.mark.parametrize("ke_group", [Group.MODP_1024, Group.MODP_2048, 1025, 0, 65535])
    def test_else_our_preference(self, ke_group: int) -> None:
        """Also for a group that was not offered, or is none: a KE payload alone never decides (CVE-2014-9221)."""
        offer = ike_proposal(1, [GCM], [], PRF, [Group.MODP_1024, Group.ECP_384, Group.ECP_256])
        with pytest.raises(InvalidKePayload) as caught:
            choose_ike((offer,), MODERN, ke_group)
        assert caught.value.data == int(Group.ECP_256).to_bytes(2, "big")
        # The kept choice of IKE_SA_INIT says the same, the first time and later.
        for _ in range(2):
            with pytest.raises(InvalidKePayload):
                answer_ike(proposals_to_bytes((offer,)), MODERN, ke_group)

    @pytest.mark.parametrize("number", [1, 3, 200])
    def test_the_answer_repeats_the_number_and_is_one_suite(self, number: int) -> None:
        suite, answer, _ = choose_ike((replace(GOOD, number=number),), MODERN, Group.CURVE25519)
        assert (answer.number, answer.protocol, answer.spi) == (number, ProtocolId.IKE, b"")
        assert [t.type for t in answer.transforms] == [TransformType.ENCR, TransformType.PRF, TransformType.KE]
        assert parse_proposals(proposals_to_bytes((answer,))) == (answer,)
        assert choose_ike((answer,), MODERN, Group.CURVE25519)[0] == suite

    @pytest.mark.parametrize("integ", [[], [Integ.NONE], [Integ.HMAC_SHA2_256_128, Integ.NONE], SHA2])
    def test_an_aead_goes_without_integrity(self, integ: list[Integ]) -> None:
        # RFC 5282 section 8: it must not be selected, offered or not.
        suite, answer, _ = choose_ike((ike_proposal(1, [GCM], integ, PRF, GROUPS),), MODERN, Group.CURVE25519)
        assert suite.integ is Integ.NONE
        assert not answer.of_type(TransformType.INTEG)

    @pytest.mark.parametrize("integ", [[], [Integ.NONE], [Integ.HMAC_SHA1_96], [Integ.HMAC_MD5_96, Integ.NONE]])
    def test_a_cipher_never_goes_without(self, integ: list[Integ]) -> None:
        assert refusal_of(ike_proposal(1, [CBC], integ, PRF, GROUPS))

    def test_ciphers_of_both_kinds_in_one_proposal(self) -> None:
        # RFC 7296 section 3.3 forbids it, RFC 5282 section 8 allows it.
        for integ in (SHA2, []):
            assert suite_of(ike_proposal(1, [CBC, GCM], integ, PRF, GROUPS)).startswith("AES_GCM_16_256/PRF")

    @pytest.mark.parametrize(
        "incomplete",
        [
            ike_proposal(1, [], SHA2, PRF, GROUPS),
            ike_proposal(1, [GCM], [], [], GROUPS),
            ike_proposal(1, [GCM], [], PRF, []),
            ike_proposal(1, [CBC], [], PRF, GROUPS),
            ike_proposal(1, [GCM], [], PRF, [Group.NONE]),
            ike_proposal(1, [(Encr.AES_GCM_16, 0)], [], PRF, GROUPS),
            ike_proposal(1, [(Encr.AES_CBC, 512)], SHA2, PRF, GROUPS),
            ike_proposal(1, [(Encr.NULL, 0)], SHA2, PRF, GROUPS),
            Proposal(1, ProtocolId.IKE, b"", ()),
            replace(GOOD, protocol=ProtocolId.ESP),
            replace(GOOD, protocol=ProtocolId.AH),
            replace(GOOD, spi=b"spi of 8"),
        ],
    )
    def test_what_is_no_complete_offer(self, incomplete: Proposal) -> None:
        refusal_of(incomplete)

    def test_a_transform_with_an_unknown_attribute_is_never_chosen(self) -> None:
        strange = Transform(TransformType.ENCR, Encr.AES_GCM_16, 256, understood=False)
        assert refusal_of(replace(GOOD, transforms=(strange, *GOOD.transforms[1:])))
        for index in (1, 2):
            transforms = list(GOOD.transforms)
            transforms[index] = transforms[index]._replace(understood=False)
            assert refusal_of(replace(GOOD, transforms=tuple(transforms)))
        beside = replace(GOOD, transforms=(strange, *GOOD.transforms))
        assert suite_of(beside).startswith("AES_GCM_16_256")

    def test_an_unknown_transform_type_makes_the_proposal_unacceptable(self) -> None:
        # Section 3.3.6; for instance the KWA of G-IKEv2. The other proposals are looked at as usual.
        strange = replace(GOOD, transforms=(*GOOD.transforms, Transform(13, 1)))
        assert "type13:1" in refusal_of(strange)
        assert choose_ike((strange, replace(GOOD, number=2)), MODERN, Group.CURVE25519)[1].number == 2
        child = esp_proposal(1, [GCM])
        with pytest.raises(NoProposalChosen):
            choose_first_child((replace(child, transforms=(*child.transforms, Transform(13, 1))),), MODERN, SPI_IN)


class TestFirstChild:
    @pytest.mark.parametrize(
        ("esn", "chosen"), [([Esn.ESN], True), ([Esn.NO_ESN], False), ([Esn.NO_ESN, Esn.ESN], True)]
    )
    def test_extended_sequence_numbers_where_they_are_offered(self, esn: list[Esn], chosen: bool) -> None:
        suite, answer, _ = choose_first_child((esp_proposal(1, [GCM], esn=esn),), MODERN, SPI_IN)
        assert suite.esn is chosen
        assert [t.id for t in answer.of_type(TransformType.ESN)] == [int(chosen)]

    def test_spis_cross_over(self) -> None:
        _, answer, spi_out = choose_first_child((esp_proposal(4, [GCM], spi=b"\xaa\xbb\xcc\xdd"),), MODERN, SPI_IN)
        assert (answer.number, answer.spi, spi_out) == (4, b"\x11\x22\x33\x44", 0xAABBCCDD)

    def test_key_exchange_transforms_are_passed_over(self) -> None:
        _, answer, _ = choose_first_child(
            (esp_proposal(1, [GCM], groups=[Group.ECP_256, Group.NONE]),), MODERN, SPI_IN
        )
        assert not answer.of_type(TransformType.KE)

    @pytest.mark.parametrize(
        "offer",
        [
            esp_proposal(1, [GCM], esn=()),
            esp_proposal(1, [GCM], esn=(2,)),
            esp_proposal(1, [CBC]),
            esp_proposal(1, [(Encr.NULL, 0)], SHA2),
            esp_proposal(1, [(Encr.DES, 0)], SHA2),
            esp_proposal(1, [GCM], spi=b""),
            esp_proposal(1, [GCM], spi=b"spi of 8"),
            esp_proposal(1, [GCM], spi=bytes(4)),
            esp_proposal(1, [GCM], spi=b"\0\0\0\xff"),
            replace(esp_proposal(1, [GCM]), protocol=ProtocolId.AH),
        ],
    )
    def test_what_is_not_acceptable(self, offer: Proposal) -> None:
        with pytest.raises(NoProposalChosen):
            choose_first_child((offer,), MODERN, SPI_IN)


class TestStockClients:
    @pytest.mark.parametrize(
        ("offer", "ke", "suite"),
        [
            (offers.WINDOWS_REGISTRY, 14, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"),
            (offers.WINDOWS_PROFILE, 20, "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384"),
            (offers.IOS_MANUAL, 14, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"),
            (offers.MACOS_MANUAL, 14, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"),
            (offers.APPLE_PROFILE, 20, "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384"),
            (offers.APPLE_PROFILE_CHACHA, 31, "CHACHA20_POLY1305/PRF_HMAC_SHA2_256/CURVE25519"),
            (offers.ANDROID_12, 16, "AES_GCM_16_256/PRF_HMAC_SHA2_256/MODP_4096"),
            (offers.STRONGSWAN, 31, "AES_GCM_16_256/PRF_HMAC_SHA2_256/CURVE25519"),
        ],
    )
    def test_accepted(self, offer: tuple[Proposal, ...], ke: int, suite: str) -> None:
        # Over the wire and back, as the gateway sees it.
        assert str(choose_ike(parse_proposals(proposals_to_bytes(offer)), MODERN, ke)[0]) == suite

    @pytest.mark.parametrize(
        ("offer", "suite"),
        [
            (offers.WINDOWS_PROFILE_ESP, "AES_GCM_16_256"),
            (offers.IOS_MANUAL_ESP, "AES_CBC_256/HMAC_SHA2_256_128"),
            (offers.ANDROID_12_ESP, "AES_GCM_16_256"),
            (offers.STRONGSWAN_ESP, "AES_GCM_16_256"),
            (offers.STRONGSWAN_APP_ESP, "AES_GCM_16_256"),
        ],
    )
    def test_accepted_for_the_child_sa(self, offer: tuple[Proposal, ...], suite: str) -> None:
        assert str(choose_first_child(parse_proposals(proposals_to_bytes(offer)), MODERN, SPI_IN)[0]) == suite

    def test_windows_without_any_setting(self) -> None:
        reason = refusal_of(*offers.WINDOWS_DEFAULT)
        assert "[TRIPLE_DES HMAC_SHA1_96 HMAC_SHA1 MODP_1024]" in reason
        assert "[AES_GCM_16_256 HMAC_SHA2_384 MODP_1024]" in reason
        assert "allowed by policy 'modern': AES_GCM_16_256" in reason
        assert reason.endswith("MODP_2048 ADDKE:ML_KEM_768 ADDKE:ML_KEM_1024")

    def test_windows_esp_without_any_setting(self) -> None:
        with pytest.raises(NoProposalChosen, match=r"\[AES_CBC_256 HMAC_SHA1_96 NO_ESN\]"):
            choose_first_child(offers.WINDOWS_DEFAULT_ESP, MODERN, SPI_IN)

    def test_android_11(self) -> None:
        # Its ciphers and groups would do; it has no PRF but XCBC and SHA-1.
        reason = refusal_of(*offers.ANDROID_11)
        assert "AES128_XCBC HMAC_SHA1 MODP_4096" in reason
        assert "AES_GCM_16_256" in reason

    @pytest.mark.parametrize(
        ("offer", "ke", "suite"),
        [
            (offers.ANDROID_11, 16, "AES_GCM_16_256/PRF_HMAC_SHA1/MODP_4096"),
            (offers.ANDROID_12, 16, "AES_GCM_16_256/PRF_HMAC_SHA2_256/MODP_4096"),
            (offers.WINDOWS_REGISTRY, 14, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048"),
        ],
    )
    def test_compatible(self, offer: tuple[Proposal, ...], ke: int, suite: str) -> None:
        assert str(choose_ike(offer, COMPATIBLE, ke)[0]) == suite

    def test_compatible_for_the_child_sa(self) -> None:
        suite, *_ = choose_first_child(offers.WINDOWS_DEFAULT_ESP, COMPATIBLE, SPI_IN)
        assert str(suite) == "AES_CBC_256/HMAC_SHA1_96"

    def test_windows_without_any_setting_is_refused_by_every_policy(self) -> None:
        with pytest.raises(NoProposalChosen):
            choose_ike(offers.WINDOWS_DEFAULT, COMPATIBLE, Group.MODP_1024)

    def test_sha1_is_for_the_prf_and_for_esp_only(self) -> None:
        with pytest.raises(NoProposalChosen):
            choose_ike((ike_proposal(1, [CBC], [Integ.HMAC_SHA1_96], PRF, GROUPS),), COMPATIBLE, Group.CURVE25519)


class TestDescription:
    def test_unknown_numbers(self) -> None:
        odd = Proposal(
            1,
            1,
            b"",
            (Transform(1, 99, 128), Transform(4, 1025), Transform(9, 3), Transform(6, 36), Transform(13, 2)),
        )
        assert describe((odd,)) == "[ENCR:99_128 KE:1025 ADDKE4:3 ADDKE1:ML_KEM_768 type13:2]"

    def test_has_an_end(self) -> None:
        flood = (Proposal(1, 1, b"", (Transform(1, 12, 256),) * 64),) * 32
        text = describe(flood)
        assert text.count("AES_CBC_256") == MAX_NAMED_TRANSFORMS
        assert text.endswith("...] ...")

    @given(
        st.lists(
            st.builds(Transform, st.integers(0, 255), st.integers(0, 65535), st.just(0), st.just(True)), max_size=20
        )
    )
    def test_never_fails(self, transforms: list[Transform]) -> None:
        assert describe((Proposal(1, 1, b"", tuple(transforms)),)).isprintable()


ids = st.integers(0, 40)
any_transform = st.builds(Transform, st.integers(1, 13), ids, st.sampled_from([0, 128, 192, 256]), st.booleans())
any_offer = st.lists(
    st.builds(Proposal, st.integers(1, 9), st.integers(1, 3), st.just(b""), st.lists(any_transform).map(tuple)),
    min_size=1,
    max_size=4,
)


@given(any_offer, ids)
def test_nothing_is_chosen_that_was_not_offered_or_is_not_allowed(offer: list[Proposal], ke_group: int) -> None:
    try:
        suite, answer, _ = choose_ike(offer, MODERN, ke_group, additional=True)
    except (NoProposalChosen, InvalidKePayload):
        return
    assert isinstance(suite, IkeSuite)
    assert (suite.encr, suite.key_bits) in MODERN.encr
    assert suite.prf in MODERN.prf
    assert suite.group in MODERN.groups
    assert suite.integ in MODERN.integ or suite.integ is Integ.NONE
    assert set(suite.additional) <= set(MODERN.additional)
    assert len({suite.group, *suite.additional}) == 1 + len(suite.additional)
    matching = [p for p in offer if p.number == answer.number and p.protocol == ProtocolId.IKE]
    assert any(set(answer.transforms) <= set(proposal.transforms) for proposal in matching)
