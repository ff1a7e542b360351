"""What stock clients offer, as their makers' documentation and source have it, for the choice of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.ike.constants import Encr, Esn, Group, Integ, Prf, ProtocolId, TransformType
from gateway.ike.payloads.security_association import Proposal, Transform

Cipher = tuple[int, int]
"""Transform id and key length, 0 where the cipher has but one."""

AES_CCM_16 = 16
CAMELLIA_CBC = 23
CURVE448, MODP_1536, MODP_6144, MODP_8192 = 32, 5, 17, 18


def ike_proposal(
    number: int, ciphers: Sequence[Cipher], integ: Iterable[int], prf: Iterable[int], groups: Iterable[int]
) -> Proposal:
    """A proposal for an IKE SA."""
    return Proposal(
        number,
        ProtocolId.IKE,
        b"",
        (
            *(Transform(TransformType.ENCR, cipher, bits) for cipher, bits in ciphers),
            *(Transform(TransformType.INTEG, number) for number in integ),
            *(Transform(TransformType.PRF, number) for number in prf),
            *(Transform(TransformType.KE, number) for number in groups),
        ),
    )


def esp_proposal(
    number: int,
    ciphers: Sequence[Cipher],
    integ: Iterable[int] = (),
    groups: Iterable[int] = (),
    esn: Iterable[int] = (Esn.NO_ESN,),
    spi: bytes = b"\xc0\xff\xee\x01",
) -> Proposal:
    """A proposal for a child SA."""
    return Proposal(
        number,
        ProtocolId.ESP,
        spi,
        (
            *(Transform(TransformType.ENCR, cipher, bits) for cipher, bits in ciphers),
            *(Transform(TransformType.INTEG, number) for number in integ),
            *(Transform(TransformType.KE, number) for number in groups),
            *(Transform(TransformType.ESN, number) for number in esn),
        ),
    )


def aes(cipher: int, *bits: int) -> list[Cipher]:
    """A cipher with several key lengths, in order."""
    return [(cipher, length) for length in bits]


_SHA1 = Integ.HMAC_SHA1_96, Prf.HMAC_SHA1
_SHA256 = Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256
_SHA384 = Integ.HMAC_SHA2_384_192, Prf.HMAC_SHA2_384

# Windows 7 to 11 without any setting: one proposal for each combination, group 2 only; Windows 11 adds AES-GCM.
WINDOWS_DEFAULT = tuple(
    ike_proposal(number, [cipher], [integ], [prf], [Group.MODP_1024])
    for number, (cipher, (integ, prf)) in enumerate(
        (
            (cipher, hashed)
            for cipher in ((Encr.TRIPLE_DES, 0), (Encr.AES_CBC, 128), (Encr.AES_CBC, 192), (Encr.AES_CBC, 256))
            for hashed in (_SHA1, _SHA256, _SHA384)
        ),
        start=1,
    )
) + tuple(
    ike_proposal(number, [(Encr.AES_GCM_16, bits)], [], [prf], [Group.MODP_1024])
    for number, (bits, prf) in enumerate(((128, Prf.HMAC_SHA2_256), (256, Prf.HMAC_SHA2_384)), start=13)
)
WINDOWS_DEFAULT_ESP = (
    esp_proposal(1, [(Encr.AES_CBC, 256)], [Integ.HMAC_SHA1_96]),
    esp_proposal(2, [(Encr.AES_CBC, 128)], [Integ.HMAC_SHA1_96]),
    esp_proposal(3, [(Encr.TRIPLE_DES, 0)], [Integ.HMAC_SHA1_96]),
    esp_proposal(4, [(Encr.DES, 0)], [Integ.HMAC_SHA1_96]),
    esp_proposal(5, [(Encr.NULL, 0)], [Integ.HMAC_SHA1_96]),
)
# Registry value NegotiateDH2048_AES256 = 2.
WINDOWS_REGISTRY = tuple(
    ike_proposal(number, [(Encr.AES_CBC, 256)], [integ], [prf], [Group.MODP_2048])
    for number, (integ, prf) in enumerate((_SHA1, _SHA256, _SHA384), start=1)
)
# Set-VpnConnectionIPsecConfiguration with ECP384, GCMAES256 and SHA384: exactly one suite.
WINDOWS_PROFILE = (ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [Prf.HMAC_SHA2_384], [Group.ECP_384]),)
WINDOWS_PROFILE_ESP = (esp_proposal(1, [(Encr.AES_GCM_16, 256)]),)

# iOS 16.5, set up by hand.
IOS_MANUAL = (
    *(
        ike_proposal(number, [(Encr.AES_CBC, 256)], [_SHA256[0]], [_SHA256[1]], [group])
        for number, group in enumerate((Group.MODP_2048, Group.ECP_256, MODP_1536), start=1)
    ),
    ike_proposal(4, [(Encr.AES_CBC, 128)], [_SHA1[0]], [_SHA1[1]], [Group.MODP_1024]),
    ike_proposal(5, [(Encr.TRIPLE_DES, 0)], [_SHA1[0]], [_SHA1[1]], [Group.MODP_1024]),
)
IOS_MANUAL_ESP = (
    *(esp_proposal(number, [(Encr.AES_CBC, 256)], [Integ.HMAC_SHA2_256_128]) for number in (1, 2, 3)),
    esp_proposal(4, [(Encr.AES_CBC, 128)], [Integ.HMAC_SHA1_96]),
    esp_proposal(5, [(Encr.TRIPLE_DES, 0)], [Integ.HMAC_SHA1_96]),
)
MACOS_MANUAL = IOS_MANUAL[:1]
# A profile with AES-256-GCM, SHA2-384 and group 20; the PRF follows the integrity that an AEAD does not use.
APPLE_PROFILE = (ike_proposal(1, [(Encr.AES_GCM_16, 256)], [], [Prf.HMAC_SHA2_384], [Group.ECP_384]),)
APPLE_PROFILE_CHACHA = (ike_proposal(1, [(Encr.CHACHA20_POLY1305, 0)], [], [Prf.HMAC_SHA2_256], [Group.CURVE25519]),)

_AES_ALL = (256, 192, 128)
_GCM_ALL = [
    (Encr.AES_GCM_16, 256), (Encr.AES_GCM_12, 256), (Encr.AES_GCM_8, 256),
    (Encr.AES_GCM_16, 192), (Encr.AES_GCM_12, 192), (Encr.AES_GCM_8, 192),
    (Encr.AES_GCM_16, 128), (Encr.AES_GCM_12, 128), (Encr.AES_GCM_8, 128),
]  # fmt: skip
_SHA2_INTEG = (Integ.HMAC_SHA2_512_256, Integ.HMAC_SHA2_384_192, Integ.HMAC_SHA2_256_128)
_SHA2_PRF = (Prf.HMAC_SHA2_512, Prf.HMAC_SHA2_384, Prf.HMAC_SHA2_256)
_ANDROID_11_GROUPS = (Group.MODP_4096, Group.MODP_3072, Group.MODP_2048)
_ANDROID_11_PRF = (Prf.AES128_XCBC, Prf.HMAC_SHA1)
ANDROID_11 = (
    ike_proposal(
        1, aes(Encr.AES_CBC, *_AES_ALL), (*_SHA2_INTEG, Integ.AES_XCBC_96), _ANDROID_11_PRF, _ANDROID_11_GROUPS
    ),
    ike_proposal(2, _GCM_ALL, [], _ANDROID_11_PRF, _ANDROID_11_GROUPS),
)
_ANDROID_12_GROUPS = (Group.MODP_4096, Group.CURVE25519, Group.MODP_3072, Group.MODP_2048)
_ANDROID_12_PRF = (*_SHA2_PRF, Prf.AES128_XCBC, Prf.AES128_CMAC, Prf.HMAC_SHA1)
_ANDROID_12_CIPHERS = [*aes(Encr.AES_CTR, *_AES_ALL), *aes(Encr.AES_CBC, *_AES_ALL)]
_ANDROID_12_INTEG = (*_SHA2_INTEG, Integ.AES_XCBC_96, Integ.AES_CMAC_96)
ANDROID_12 = (
    ike_proposal(1, _ANDROID_12_CIPHERS, _ANDROID_12_INTEG, _ANDROID_12_PRF, _ANDROID_12_GROUPS),
    ike_proposal(2, [(Encr.CHACHA20_POLY1305, 0), *_GCM_ALL], [], _ANDROID_12_PRF, _ANDROID_12_GROUPS),
)
ANDROID_12_ESP = (
    esp_proposal(1, _ANDROID_12_CIPHERS, _ANDROID_12_INTEG),
    esp_proposal(2, [(Encr.CHACHA20_POLY1305, 0), *_GCM_ALL]),
)

_STRONGSWAN_GROUPS = (
    Group.CURVE25519, CURVE448, Group.ECP_256, Group.ECP_384, Group.ECP_521,
    Group.MODP_3072, Group.MODP_4096, MODP_6144, MODP_8192, Group.MODP_2048,
)  # fmt: skip
_STRONGSWAN_PRF = (
    Prf.HMAC_SHA2_256, Prf.HMAC_SHA2_384, Prf.HMAC_SHA2_512, Prf.AES128_XCBC, Prf.AES128_CMAC, Prf.HMAC_SHA1,
)  # fmt: skip
STRONGSWAN = (
    ike_proposal(
        1,
        [*aes(Encr.AES_CBC, 128, 192, 256), *aes(Encr.AES_CTR, 128, 192, 256), *aes(CAMELLIA_CBC, 128, 192, 256)],
        (*_SHA2_INTEG[::-1], Integ.HMAC_SHA1_96, Integ.AES_XCBC_96, Integ.AES_CMAC_96),
        _STRONGSWAN_PRF,
        _STRONGSWAN_GROUPS,
    ),
    ike_proposal(
        2,
        [*aes(Encr.AES_GCM_16, 128, 192, 256), *aes(AES_CCM_16, 128, 192, 256), (Encr.CHACHA20_POLY1305, 0)],
        [],
        _STRONGSWAN_PRF,
        _STRONGSWAN_GROUPS,
    ),
)
STRONGSWAN_ESP = (
    esp_proposal(1, aes(Encr.AES_GCM_16, 128, 192, 256), esn=(Esn.NO_ESN,)),
    esp_proposal(2, aes(Encr.AES_CBC, 128, 192, 256), (*_SHA2_INTEG[::-1], Integ.HMAC_SHA1_96, Integ.AES_XCBC_96)),
)
STRONGSWAN_APP_ESP = (
    esp_proposal(
        1,
        [(Encr.AES_GCM_16, 256), (Encr.AES_GCM_16, 128), (Encr.CHACHA20_POLY1305, 0)],
        groups=(Group.CURVE25519, Group.ECP_384, Group.ECP_521, Group.MODP_3072, Group.MODP_4096, Group.ECP_256),
    ),
    esp_proposal(2, [(Encr.AES_GCM_16, 256), (Encr.AES_GCM_16, 128), (Encr.CHACHA20_POLY1305, 0)]),
)
