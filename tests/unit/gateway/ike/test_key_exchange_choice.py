"""Which key exchanges are made: with and without perfect forward secrecy, and additional ones (RFC 9370)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.ike.constants import ADDITIONAL_KE_TYPES, Encr, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.errors import InvalidKePayload, NoProposalChosen
from gateway.ike.payloads.security_association import Proposal, Transform, parse_proposals, proposals_to_bytes
from gateway.ike.policy import CNSA2, COMPATIBLE, MODERN, POLICIES, ProposalPolicy
from gateway.ike.proposal_text import policy_text
from gateway.ike.proposals import (
    ChildSuite,
    IkeSuite,
    child_offer,
    choose_child,
    choose_first_child,
    choose_ike,
    ike_offer,
)
from tests.unit.gateway.ike import offers
from tests.unit.gateway.ike.offers import esp_proposal, ike_proposal

SPI_IN = 0x11223344
GCM, CBC = (Encr.AES_GCM_16, 256), (Encr.AES_CBC, 256)
SHA2 = [Integ.HMAC_SHA2_256_128]
NONE, K512, K768, K1024 = Group.NONE, Group.ML_KEM_512, Group.ML_KEM_768, Group.ML_KEM_1024
IKE = ike_proposal(1, [GCM], [], [Prf.HMAC_SHA2_384], [Group.ECP_384])
CHILD = esp_proposal(1, [GCM], groups=[Group.ECP_384])


def with_additional(proposal: Proposal, *methods: Sequence[Group]) -> Proposal:
    """The proposal with ADDKE1, ADDKE2, ... of these methods; an empty one leaves its type out."""
    more = [
        Transform(kind, method) for kind, group in zip(ADDITIONAL_KE_TYPES, methods, strict=False) for method in group
    ]
    return replace(proposal, transforms=(*proposal.transforms, *more))


def additional_of(
    proposals: Sequence[Proposal], policy: ProposalPolicy = MODERN, *, additional: bool = True
) -> tuple[tuple[Group, ...], list[tuple[int, int]]]:
    """The additional key exchanges that are chosen for an IKE SA, and the transforms that say so."""
    suite, answer, _ = choose_ike(proposals, policy, Group.ECP_384, additional=additional)
    assert parse_proposals(proposals_to_bytes((answer,))) == (answer,)
    return suite.additional, [(t.type, t.id) for t in answer.transforms if t.type in ADDITIONAL_KE_TYPES]


class TestChild:
    @pytest.mark.parametrize("group", MODERN.groups)
    def test_with_a_key_exchange(self, group: Group) -> None:
        offer = esp_proposal(1, [GCM], groups=MODERN.groups)
        suite, answer, _ = choose_child((offer,), MODERN, SPI_IN, ke_group=group)
        assert suite == ChildSuite(*GCM, Integ.NONE, False, group)
        assert [t.id for t in answer.of_type(TransformType.KE)] == [group]

    def test_without_one(self) -> None:
        suite, answer, _ = choose_child((esp_proposal(1, [GCM]),), MODERN, SPI_IN, ke_group=None)
        assert suite.group is None
        assert not answer.of_type(TransformType.KE)

    @pytest.mark.parametrize("ke_group", [None, Group.MODP_2048, 1025])
    def test_a_ke_payload_that_is_missing_or_of_another_group(self, ke_group: int | None) -> None:
        with pytest.raises(InvalidKePayload) as caught:
            choose_child((esp_proposal(1, [GCM], groups=[Group.ECP_256]),), MODERN, SPI_IN, ke_group=ke_group)
        assert caught.value.data == b"\x00\x13"

    def test_none_beside_groups_leaves_it_to_the_ke_payload(self) -> None:
        offer = (esp_proposal(1, [GCM], groups=[Group.ECP_256, NONE]),)
        assert choose_child(offer, MODERN, SPI_IN, ke_group=None)[0].group is None
        assert choose_child(offer, MODERN, SPI_IN, ke_group=Group.ECP_256)[0].group is Group.ECP_256
        with pytest.raises(InvalidKePayload):
            choose_child(offer, MODERN, SPI_IN, ke_group=Group.MODP_2048)

    def test_a_ke_payload_of_a_group_that_is_never_acceptable_beside_none(self) -> None:
        offer = (esp_proposal(1, [GCM], groups=[Group.MODP_1024, NONE]),)
        assert choose_child(offer, MODERN, SPI_IN, ke_group=Group.MODP_1024)[0].group is None

    def test_only_unacceptable_groups(self) -> None:
        with pytest.raises(NoProposalChosen):
            choose_child((esp_proposal(1, [GCM], groups=[Group.MODP_1024]),), MODERN, SPI_IN, ke_group=2)

    def test_apples_offer_with_and_without(self) -> None:
        # Child rekey of iOS: MODP-2048, then the same without.
        cbc = esp_proposal(1, [CBC], SHA2, groups=[Group.MODP_2048])
        offer = (cbc, replace(esp_proposal(2, [CBC], SHA2), spi=cbc.spi))
        suite, answer, _ = choose_child(offer, MODERN, SPI_IN, ke_group=Group.MODP_2048)
        assert (suite.group, answer.number) == (Group.MODP_2048, 1)

    def test_the_strongswan_apps_offer(self) -> None:
        suite, answer, _ = choose_child(offers.STRONGSWAN_APP_ESP, MODERN, SPI_IN, ke_group=Group.CURVE25519)
        assert str(suite) == "AES_GCM_16_256/CURVE25519"
        assert answer.number == 1

    def test_an_aead_goes_first_and_spis_cross_over(self) -> None:
        offer = (esp_proposal(3, [CBC], SHA2), esp_proposal(7, [GCM], spi=b"\xaa\xbb\xcc\xdd"))
        suite, answer, spi_out = choose_child(offer, MODERN, SPI_IN, ke_group=None)
        assert (suite.encr, answer.number, answer.spi, spi_out) == (
            Encr.AES_GCM_16,
            7,
            b"\x11\x22\x33\x44",
            0xAABBCCDD,
        )

    def test_the_first_child_has_no_key_exchange_whatever_is_offered(self) -> None:
        offer = with_additional(esp_proposal(1, [GCM], groups=[Group.MODP_1024]), [K768])
        suite, answer, _ = choose_first_child((offer,), MODERN, SPI_IN)
        assert (suite.group, suite.additional) == (None, ())
        assert {t.type for t in answer.transforms} == {TransformType.ENCR, TransformType.ESN}


class TestAdditional:
    def test_one(self) -> None:
        assert additional_of([with_additional(IKE, [K768])]) == ((K768,), [(6, 36)])

    def test_the_policys_order_decides_within_a_type(self) -> None:
        assert additional_of([with_additional(IKE, [K1024, K768, NONE])]) == ((K768,), [(6, 36)])

    def test_none_is_answered_with_none_and_does_not_take_place(self) -> None:
        offer = with_additional(IKE, [K512, NONE], [], [K1024], [K512, NONE])
        assert additional_of([offer]) == ((K1024,), [(6, 0), (8, 37), (9, 0)])

    def test_types_may_be_left_out(self) -> None:
        # The example of RFC 9370 section 2.2.1 has ADDKE2, 3 and 5.
        offer = with_additional(IKE, [], [K768, K1024], [K768, K1024], [], [K512, NONE])
        assert additional_of([offer]) == ((K768, K1024), [(7, 36), (8, 37), (10, 0)])

    def test_no_method_is_used_twice(self) -> None:
        # The first type has to give way, since the second one leaves no choice.
        assert additional_of([with_additional(IKE, [K768, K1024], [K768])]) == ((K1024, K768), [(6, 37), (7, 36)])
        with pytest.raises(NoProposalChosen):
            additional_of([with_additional(IKE, [K768], [K768])])
        assert additional_of([with_additional(IKE, [K768], [K768, NONE])]) == ((K768,), [(6, 36), (7, 0)])

    def test_the_first_key_exchanges_method_neither(self) -> None:
        policy = replace(MODERN, additional=(Group.ECP_384, K768))
        assert additional_of([with_additional(IKE, [Group.ECP_384, K768])], policy) == ((K768,), [(6, 36)])

    @pytest.mark.parametrize("methods", [[[K512]], [[Group.MODP_2048]], [[K768], [K1024], [K512]]])
    def test_what_is_not_acceptable_makes_the_proposal_so(self, methods: list[list[Group]]) -> None:
        with pytest.raises(NoProposalChosen):
            additional_of([with_additional(IKE, *methods)])

    def test_seven_of_them(self) -> None:
        offer = with_additional(IKE, *[[K768, K1024, NONE]] * 7)
        assert additional_of([offer]) == ((K768, K1024), [(6, 36), (7, 37), *((kind, 0) for kind in range(8, 13))])

    def test_the_search_for_methods_has_an_end(self) -> None:
        # Nothing fits, whichever way it is turned.
        crowded = [[K768, K1024]] * 7
        with pytest.raises(NoProposalChosen):
            additional_of([with_additional(IKE, *crowded)] * 32)

    def test_not_with_a_peer_that_can_not(self) -> None:
        # INTERMEDIATE_EXCHANGE_SUPPORTED is missing (RFC 9370 section 2.2.1).
        with pytest.raises(NoProposalChosen):
            additional_of([with_additional(IKE, [K768])], additional=False)
        assert additional_of([with_additional(IKE, [K768, NONE])], additional=False) == ((), [(6, 0)])

    def test_a_proposal_with_them_goes_first(self) -> None:
        """Whoever offers both has a fallback for gateways that can't; it is not to be talked into it by its order."""
        hybrid = with_additional(ike_proposal(2, [CBC], SHA2, [Prf.HMAC_SHA2_256], [Group.ECP_384]), [K768])
        suite, answer, _ = choose_ike((IKE, hybrid), MODERN, Group.ECP_384, additional=True)
        assert (suite.additional, answer.number) == ((K768,), 2)

    def test_in_a_child_sa(self) -> None:
        offer = (with_additional(CHILD, [K768, NONE]),)
        suite, answer, _ = choose_child(offer, MODERN, SPI_IN, ke_group=Group.ECP_384, additional=True)
        assert suite == ChildSuite(*GCM, Integ.NONE, False, Group.ECP_384, (K768,))
        assert str(suite) == "AES_GCM_16_256/ECP_384+ML_KEM_768"
        assert [t.id for t in answer.of_type(TransformType.ADDKE1)] == [K768]

    def test_none_without_a_first_key_exchange(self) -> None:
        offer = with_additional(esp_proposal(1, [GCM]), [K768, NONE])
        suite, answer, _ = choose_child((offer,), MODERN, SPI_IN, ke_group=None, additional=True)
        assert (suite.group, suite.additional) == (None, ())
        assert [t.id for t in answer.of_type(TransformType.ADDKE1)] == [NONE]
        with pytest.raises(NoProposalChosen):
            choose_child((with_additional(esp_proposal(1, [GCM]), [K768]),), MODERN, SPI_IN, ke_group=None)


class TestRekeyedIke:
    SPI = b"our spi!"

    def test_spis_cross_over(self) -> None:
        offer = replace(IKE, number=3, spi=b"theirspi")
        _, answer, peer_spi = choose_ike((offer,), MODERN, Group.ECP_384, self.SPI)
        assert (answer.number, answer.spi, peer_spi) == (3, self.SPI, b"theirspi")

    @pytest.mark.parametrize("spi", [b"", b"four", bytes(8)])
    def test_a_proposal_without_an_spi(self, spi: bytes) -> None:
        with pytest.raises(NoProposalChosen):
            choose_ike((replace(IKE, spi=spi),), MODERN, Group.ECP_384, self.SPI)

    def test_windows_that_falls_back_to_a_weak_group(self) -> None:
        offer = tuple(replace(proposal, spi=b"theirspi") for proposal in offers.WINDOWS_DEFAULT)
        for policy in POLICIES.values():
            with pytest.raises(NoProposalChosen):
                choose_ike(offer, policy, Group.MODP_1024, self.SPI)


class TestOffers:
    def test_of_an_ike_sa(self) -> None:
        suite = IkeSuite(*GCM, Integ.NONE, Prf.HMAC_SHA2_384, Group.ECP_384, (K1024,))
        (offer,) = ike_offer(suite, b"our spi!", suite.group)
        assert (offer.number, offer.protocol, offer.spi) == (1, ProtocolId.IKE, b"our spi!")
        assert choose_ike((offer,), MODERN, Group.ECP_384, b"theirspi", additional=True)[0] == suite
        (other,) = ike_offer(suite, b"our spi!", Group.ECP_256)
        assert choose_ike((other,), MODERN, Group.ECP_256, b"theirspi", additional=True)[0].group is Group.ECP_256

    @pytest.mark.parametrize("suite", [ChildSuite(*GCM, Integ.NONE, True), ChildSuite(*CBC, SHA2[0], False)])
    def test_of_a_child_sa(self, suite: ChildSuite) -> None:
        (plain,) = child_offer(suite, SPI_IN, None)
        assert not plain.of_type(TransformType.KE)
        assert choose_child((plain,), MODERN, 0x55667788, ke_group=None)[0] == suite
        offer = child_offer(suite, SPI_IN, Group.ECP_256)
        assert [p.spi for p in offer] == [b"\x11\x22\x33\x44"] * 2
        with_exchange = choose_child(offer, MODERN, 0x55667788, ke_group=Group.ECP_256)[0]
        assert with_exchange == replace(suite, group=Group.ECP_256)
        # A client that takes no key exchange for child SAs (Android) finds the second one.
        no_exchange = replace(MODERN, groups=())
        assert choose_child(offer, no_exchange, 0x55667788, ke_group=Group.ECP_256)[0] == suite


class TestPolicies:
    def test_names(self) -> None:
        assert list(POLICIES) == ["modern", "compatible", "cnsa2"]

    @pytest.mark.parametrize("policy", POLICIES.values(), ids=lambda policy: policy.name)
    def test_what_none_of_them_has(self, policy: ProposalPolicy) -> None:
        assert not {Group.MODP_768, Group.MODP_1024, Group.MODP_1536} & {*policy.groups, *policy.additional}
        assert not {Encr.DES, Encr.TRIPLE_DES, Encr.NULL, Encr.AES_GCM_8, Encr.AES_GCM_12} & {
            e for e, _ in policy.encr
        }
        assert not {Integ.HMAC_MD5_96, Integ.NONE} & {*policy.integ, *policy.esp_integ}
        assert Prf.HMAC_MD5 not in policy.prf
        assert Integ.HMAC_SHA1_96 not in policy.integ

    def test_weaknesses_are_named_and_are_all_there_is(self) -> None:
        assert MODERN.weaknesses == CNSA2.weaknesses == ()
        more = {f"PRF_{prf.name}" for prf in set(COMPATIBLE.prf) - set(MODERN.prf)}
        more |= {integ.name for integ in set(COMPATIBLE.esp_integ) - set(MODERN.esp_integ)}
        assert {text.split()[0] for text in COMPATIBLE.weaknesses} == more
        same = replace(COMPATIBLE, name="modern", prf=MODERN.prf, esp_integ=MODERN.esp_integ, weaknesses=())
        assert policy_text(same) == policy_text(MODERN)

    def test_cnsa2_takes_what_it_asks_for(self) -> None:
        offer = (with_additional(IKE, [K1024]),)
        suite, _, _ = choose_ike(offer, CNSA2, Group.ECP_384, additional=True)
        assert str(suite) == "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384+ML_KEM_1024"

    @pytest.mark.parametrize(
        "offer",
        [
            IKE,
            with_additional(IKE, [NONE]),
            with_additional(IKE, [K768]),
            with_additional(ike_proposal(1, [GCM], [], [Prf.HMAC_SHA2_256], [Group.ECP_384]), [K1024]),
            with_additional(
                ike_proposal(1, [(Encr.AES_GCM_16, 128)], [], [Prf.HMAC_SHA2_384], [Group.ECP_384]), [K1024]
            ),
            with_additional(ike_proposal(1, [CBC], SHA2, [Prf.HMAC_SHA2_384], [Group.ECP_384]), [K1024]),
            with_additional(ike_proposal(1, [GCM], [], [Prf.HMAC_SHA2_384], [Group.CURVE25519]), [K1024]),
        ],
    )
    def test_cnsa2_takes_nothing_less(self, offer: Proposal) -> None:
        with pytest.raises(NoProposalChosen):
            choose_ike((offer,), CNSA2, Group.ECP_384, additional=True)

    def test_cnsa2_without_intermediate_exchanges(self) -> None:
        with pytest.raises(NoProposalChosen):
            choose_ike((with_additional(IKE, [K1024, NONE]),), CNSA2, Group.ECP_384, additional=False)

    def test_cnsa2_child_sas(self) -> None:
        # Keys from the IKE SA, which is hybrid, will do; a key exchange of their own has to be hybrid too.
        assert choose_child((esp_proposal(1, [GCM]),), CNSA2, SPI_IN, ke_group=None)[0].group is None
        hybrid = (with_additional(CHILD, [K1024]),)
        suite, _, _ = choose_child(hybrid, CNSA2, SPI_IN, ke_group=Group.ECP_384, additional=True)
        assert suite.additional == (K1024,)
        for offer in (CHILD, with_additional(CHILD, [K1024, NONE])):
            with pytest.raises(NoProposalChosen):
                choose_child((offer,), CNSA2, SPI_IN, ke_group=Group.ECP_384, additional=False)
