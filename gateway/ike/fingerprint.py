"""What client a peer looks like: for the operator's eyes, never a ground to let it in or keep it out.

The one thing that hangs on it is which side rekeys (`IkeSa.child_expired`), and whoever lies has only its own tunnel
to lose.

Names it can give: `Windows`, `Windows 10 or older`, `Windows 10 or 11`, `Apple`, `iOS`, `Android`, `Android 11`,
`Android 12 or newer`, `strongSwan`, `strongSwan for Android`, `libreswan`. NetworkManager's plugin is strongSwan and
looks like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gateway.ike.constants import CfgAttribute, Encr, Group, NotifyType, PayloadType, Prf, TransformType
from gateway.ike.message import Payloads
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, parse_proposals

_MICROSOFT_VENDOR_IDS = (
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461"),
    bytes.fromhex("fb1de3cdf341b7ea16b7e5be0855f120"),
    bytes.fromhex("01528bbbc00696121849ab9a1c5b2a51"),
)
_LIBRESWAN_VENDOR_ID = b"OE-Libreswan"

_LIBRESWAN_FRONT = frozenset({NotifyType.IKEV2_FRAGMENTATION_SUPPORTED, NotifyType.SIGNATURE_HASH_ALGORITHMS})
_APPLE_FRONT = frozenset({NotifyType.REDIRECT_SUPPORTED})
"""Notifies that others have behind NAT detection."""
_ANDROID_11_PRFS = (Prf.AES128_XCBC, Prf.HMAC_SHA1)
_ANDROID_11_GROUPS = (Group.MODP_4096, Group.MODP_3072, Group.MODP_2048)
_ANDROID_12_GROUPS = (Group.MODP_4096, Group.CURVE25519, Group.MODP_3072, Group.MODP_2048)
_IOS_PROPOSALS = 5
"""Of an iPhone that was set up by hand, the third of them with a group that nobody else offers any more."""
_STRONGSWAN_APP_PROPOSALS = 4
_STRONGSWAN_APP_CIPHERS = ((Encr.AES_GCM_16, 256), (Encr.AES_GCM_16, 128), (Encr.CHACHA20_POLY1305, 0))

_MOST_CACHED_BYTES = 2048


def from_ike_sa_init(payloads: Payloads, notifies: Sequence[Notify]) -> str:
    """A guess from vendor ids, the order of the notifies, and the offer; empty where there is no sign.

    Raises:
        InvalidSyntax: the SA payload is malformed.
    """
    body = payloads.first(PayloadType.SA)
    for vendor_id in payloads.all(PayloadType.VENDOR_ID):
        if vendor_id.startswith(_MICROSOFT_VENDOR_IDS):
            return _windows(_offer(body))
        if vendor_id.startswith(_LIBRESWAN_VENDOR_ID):
            return "libreswan"
    types = [notify.type for notify in notifies]
    if _come_before_nat_detection(types, _LIBRESWAN_FRONT):
        return "libreswan"
    if _come_before_nat_detection(types, _APPLE_FRONT):
        return _apple(_offer(body))
    if NotifyType.REDIRECT_SUPPORTED in types:
        return "strongSwan"
    return _android(_offer(body))


def from_ike_auth(guess: str, child_proposals: Sequence[Proposal], request: Configuration | None) -> str:
    """The guess after IKE_AUTH: a better one where what the client asks for says more.

    Args:
        guess: of `from_ike_sa_init`.
        child_proposals: of the first child SA.
        request: the CFG_REQUEST, if there is one.
    """
    if guess == "strongSwan" and _is_strongswan_app(child_proposals):
        return "strongSwan for Android"
    if guess or request is None:
        return guess
    if request.has(CfgAttribute.MS_INTERNAL_IP4_SERVER) or request.has(CfgAttribute.MS_INTERNAL_IP6_SERVER):
        return "Windows"
    if request.has(CfgAttribute.INTERNAL_IP4_DHCP) and request.has(CfgAttribute.INTERNAL_IP6_DHCP):
        return "Apple"
    if request.has(CfgAttribute.APPLICATION_VERSION):
        return "Android"
    return ""


def _come_before_nat_detection(types: Sequence[int], wanted: frozenset[NotifyType]) -> bool:
    if NotifyType.NAT_DETECTION_SOURCE_IP not in types:
        return False
    return wanted.issubset(types[: types.index(NotifyType.NAT_DETECTION_SOURCE_IP)])


def _windows(offer: Sequence[Proposal]) -> str:
    """Left alone it offers many suites, newer builds AES-GCM among them; by profile it offers just one."""
    ciphers = {transform.id for proposal in offer for transform in proposal.of_type(TransformType.ENCR)}
    if len(offer) > 1 and Encr.AES_GCM_16 in ciphers:
        return "Windows 10 or 11"
    return "Windows 10 or older" if Encr.TRIPLE_DES in ciphers and len(offer) > 1 else "Windows"


def _apple(offer: Sequence[Proposal]) -> str:
    groups = {transform.id for proposal in offer for transform in proposal.of_type(TransformType.KE)}
    return "iOS" if len(offer) == _IOS_PROPOSALS and Group.MODP_1536 in groups else "Apple"


def _android(offer: Sequence[Proposal]) -> str:
    if not offer:
        return ""
    groups = tuple(transform.id for transform in offer[0].of_type(TransformType.KE))
    prfs = tuple(transform.id for transform in offer[0].of_type(TransformType.PRF))
    if groups == _ANDROID_12_GROUPS:
        return "Android 12 or newer"
    return "Android 11" if groups == _ANDROID_11_GROUPS and set(prfs) == set(_ANDROID_11_PRFS) else ""


def _is_strongswan_app(proposals: Sequence[Proposal]) -> bool:
    """It offers all its suites twice, with and without a key exchange, which IKE_AUTH has no room for."""
    if len(proposals) != _STRONGSWAN_APP_PROPOSALS:
        return False
    first = tuple((transform.id, transform.key_bits) for transform in proposals[0].of_type(TransformType.ENCR))
    return first == _STRONGSWAN_APP_CIPHERS


def _offer(body: bytes | None) -> tuple[Proposal, ...]:
    if body is None:
        return ()
    return parse_proposals(body) if len(body) > _MOST_CACHED_BYTES else _cached_offer(body)


@lru_cache(maxsize=128)
def _cached_offer(body: bytes) -> tuple[Proposal, ...]:
    """All clients of one kind send the same bytes; long ones, which only an attacker makes many of, are not kept."""
    return parse_proposals(body)
