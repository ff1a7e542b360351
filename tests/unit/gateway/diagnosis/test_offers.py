"""What of a stock client's offer is missing, in names, and what is to be done about it on that client."""

from __future__ import annotations

import pytest

from aaa.enrolment.target import Target
from aaa.enrolment.windows import powershell
from aaa.handshakes import advice_and_command
from gateway.diagnosis.clients import WINDOWS_SUITE, Family, fragment_advice, proposal_advice, trust_advice
from gateway.diagnosis.offers import lacks
from gateway.ike.constants import Encr, Esn, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.payloads.security_association import Proposal, Transform
from gateway.ike.policy import CNSA2, COMPATIBLE, MODERN, POLICIES, ProposalPolicy
from tests.unit.gateway.ike import offers

IKE, ESP = ProtocolId.IKE, ProtocolId.ESP


@pytest.mark.parametrize(
    ("proposals", "policy", "protocol", "missing"),
    [
        (offers.WINDOWS_DEFAULT, MODERN, IKE, ["KE"]),
        (offers.WINDOWS_DEFAULT_ESP, MODERN, ESP, ["INTEG"]),
        (offers.WINDOWS_DEFAULT_ESP, COMPATIBLE, ESP, []),
        (offers.ANDROID_11, MODERN, IKE, ["PRF"]),
        (offers.ANDROID_11, COMPATIBLE, IKE, []),
        (offers.ANDROID_12, CNSA2, IKE, ["KE", "ADDKE1"]),
        (offers.STRONGSWAN, MODERN, IKE, []),
        ((), MODERN, IKE, ["ENCR", "INTEG", "PRF", "KE"]),
    ],
)
def test_what_is_missing(
    proposals: tuple[Proposal, ...], policy: ProposalPolicy, protocol: ProtocolId, missing: list[str]
) -> None:
    assert [lack.kind.name for lack in lacks(proposals, policy, protocol)] == missing


def test_it_is_named() -> None:
    (lack,) = lacks(offers.WINDOWS_DEFAULT, MODERN, IKE)
    assert lack.sentence == (
        "no key exchange group that is allowed (it offers MODP_1024; allowed are CURVE25519, ECP_256, ECP_384, "
        "ECP_521, MODP_3072, MODP_4096, MODP_2048)"
    )


def test_what_we_do_not_know_is_named_by_its_number_and_has_an_end() -> None:
    strange = offers.ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [Prf.HMAC_SHA2_256], range(100, 164))
    (lack,) = lacks((strange,), MODERN, IKE)
    assert "it offers KE:100, KE:101" in lack.sentence
    assert "and 48 more" in lack.sentence


def test_an_algorithm_with_an_attribute_that_is_not_known_does_not_count() -> None:
    odd = Transform(TransformType.ENCR, Encr.AES_GCM_16, 256, understood=False)
    proposal = Proposal(1, ESP, b"1234", (odd, Transform(TransformType.ESN, Esn.NO_ESN)))
    assert next(lack.kind for lack in lacks((proposal,), MODERN, ESP)) is TransformType.ENCR


def test_a_proposal_of_ah_counts_for_nothing() -> None:
    proposal = Proposal(1, 2, b"1234", (Transform(TransformType.INTEG, Integ.HMAC_SHA2_256_128),))
    assert len(lacks((proposal,), MODERN, ESP)) == 2


class TestAdvice:
    @pytest.mark.parametrize(
        ("client", "family"),
        [
            ("Windows", Family.WINDOWS),
            ("Windows 10 or 11", Family.WINDOWS),
            ("Apple", Family.APPLE),
            ("iOS", Family.APPLE),
            ("Android 11", Family.ANDROID),
            ("Android 12 or newer", Family.ANDROID),
            ("strongSwan", Family.STRONGSWAN),
            ("strongSwan for Android", Family.STRONGSWAN_APP),
            ("libreswan", Family.LIBRESWAN),
            ("", Family.UNKNOWN),
            ("something new", Family.UNKNOWN),
        ],
    )
    def test_families(self, client: str, family: Family) -> None:
        assert Family.of(client) is family

    @pytest.mark.parametrize("policy", POLICIES.values(), ids=lambda policy: policy.name)
    @pytest.mark.parametrize("family", Family)
    def test_each_family_is_advised(self, family: Family, policy: ProposalPolicy) -> None:
        missing = [TransformType.ADDKE1] if policy.hybrid_only else [TransformType.KE]
        for advice in (
            proposal_advice(family.value, policy, missing),
            trust_advice(family.value, "vpn.example.com", rsa=True),
        ):
            assert advice
            assert all(len(step) < 600 for step in advice)
            commands = [command for step in advice if (command := advice_and_command(step)[1])]
            assert all(
                command.split()[0] in {"Set-VpnConnectionIPsecConfiguration", "certutil"} for command in commands
            )
        assert any("vpn.example.com" in step for step in trust_advice(family.value, "vpn.example.com", rsa=True))

    def test_windows_gets_the_line_that_sets_what_our_script_sets(self) -> None:
        (line, _) = proposal_advice("Windows 10 or 11", MODERN, [TransformType.KE])
        assert line.endswith(WINDOWS_SUITE)
        script = powershell(Target("vpn.example.com", "vpn.example.com", "alice"))
        assert WINDOWS_SUITE in " ".join(script.replace("`", "").split())

    def test_that_line_is_allowed(self) -> None:
        proposal = offers.WINDOWS_PROFILE
        assert lacks(proposal, MODERN, IKE) == lacks(offers.WINDOWS_PROFILE_ESP, MODERN, ESP) == ()
        assert {transform.id for transform in proposal[0].of_type(TransformType.KE)} == {Group.ECP_384}

    @pytest.mark.parametrize(
        ("client", "missing", "policy", "may_be_allowed"),
        [
            ("Android 11", [TransformType.PRF], MODERN, True),
            ("Android 11", [TransformType.PRF], COMPATIBLE, False),
            ("Windows", [TransformType.INTEG], MODERN, True),
            # MODP-1024 is allowed by no policy.
            ("Windows", [TransformType.KE], MODERN, False),
            ("libreswan", [TransformType.PRF], MODERN, False),
        ],
    )
    def test_the_compatible_policy_is_named_where_it_helps(
        self, client: str, missing: list[TransformType], policy: ProposalPolicy, may_be_allowed: bool
    ) -> None:
        advice = " ".join(proposal_advice(client, policy, missing))
        assert ('gateway.proposal_policy = "compatible"' in advice) is may_be_allowed

    def test_post_quantum_policy_names_who_can(self) -> None:
        assert "no ML-KEM" in proposal_advice("Windows", CNSA2, [TransformType.ADDKE1])[0]
        assert "PostQuantumKeyExchangeMethods" in proposal_advice("iOS", CNSA2, [TransformType.ADDKE1])[0]

    @pytest.mark.parametrize(("client", "rsa", "first"), [("Android", False, True), ("Android", True, False)])
    def test_android_needs_an_rsa_key(self, client: str, rsa: bool, first: bool) -> None:
        assert ("rsa-3072" in trust_advice(client, "gateway", rsa=rsa)[0]) is first

    def test_only_strongswan_has_a_setting_for_the_size_of_fragments(self) -> None:
        assert "charon.fragment_size" in fragment_advice("strongSwan")[0]
        assert fragment_advice("Apple") == ()
