"""iOS, iPadOS and macOS: set up by hand, by profile, and as newer releases offer where a profile says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gateway.ike.constants import Integ
from gateway.ike.proposals import IkeSuite
from tests.peers.native import encoding as e
from tests.peers.native.client import FirstAuth, Init, NativeClient
from tests.peers.native.encoding import Payload, Transform

AES_CBC_256, AES_CBC_128, TRIPLE_DES, AES_GCM_256 = (12, 256), (12, 128), (3, 0), (20, 256)
SHA1, SHA256, SHA384 = (2, 2), (12, 5), (13, 6)
MODP_1024, MODP_1536, MODP_2048, ECP_256, ECP_384 = 2, 5, 14, 19, 20


def _suite(cipher: tuple[int, int], hashed: tuple[int, int], group: int) -> list[Transform]:
    """The PRF in front of the integrity, which an AEAD goes without."""
    integrity, prf = hashed
    middle = [] if cipher[0] == AES_GCM_256[0] else [(e.INTEG, integrity, 0)]
    return [(e.ENCR, *cipher), (e.PRF, prf, 0), *middle, (e.KE, group, 0)]


def ike_offer(suites: Sequence[Sequence[Transform]], spi: bytes = b"", *, first: int = 1) -> bytes:
    """The IKE proposals; a rekeying brings an SPI, and macOS 14 does not begin to count at 1."""
    return e.sa(*(e.proposal(number, e.IKE, suite, spi) for number, suite in enumerate(suites, start=first)))


def suite_of(suite: IkeSuite) -> list[Transform]:
    """The one that a client has, as it offers it again when it rekeys."""
    integrity: list[Transform] = [] if suite.integ is Integ.NONE else [(e.INTEG, suite.integ, 0)]
    return [(e.ENCR, suite.encr, suite.key_bits), (e.PRF, suite.prf, 0), *integrity, (e.KE, suite.group, 0)]


def _esp(suites: Sequence[tuple[tuple[int, int], int]], spi: bytes) -> bytes:
    return e.sa(
        *(
            e.proposal(
                number,
                e.ESP,
                [(e.ENCR, *cipher), *([(e.INTEG, integrity, 0)] if integrity else []), (e.ESN, 0, 0)],
                spi,
            )
            for number, (cipher, integrity) in enumerate(suites, start=1)
        )
    )


def profile_child_with_key_exchange(spi: bytes) -> bytes:
    """By our profile, which has perfect forward secrecy, when it rekeys."""
    return e.sa(e.proposal(1, e.ESP, [(e.ENCR, *AES_GCM_256), (e.KE, ECP_384, 0), (e.ESN, 0, 0)], spi))


def child_offer_with_key_exchange(spi: bytes) -> bytes:
    """Of an iPhone that was set up by hand, when it rekeys: with perfect forward secrecy, or without."""
    transforms: list[Transform] = [(e.ENCR, *AES_CBC_256), (e.INTEG, 12, 0)]
    return e.sa(
        e.proposal(1, e.ESP, [*transforms, (e.KE, MODP_2048, 0), (e.ESN, 0, 0)], spi),
        e.proposal(2, e.ESP, [*transforms, (e.ESN, 0, 0)], spi),
    )


def _init(offer: bytes, init: Init) -> list[Payload]:
    return [
        (e.SA, offer),
        (e.KEY_EXCHANGE, init.key_exchange),
        (e.NONCE, init.nonce),
        e.notify(16406),
        e.notify(16388, init.nat_source),
        e.notify(16389, init.nat_destination),
        e.notify(16430),
    ]


def _first_auth(
    child_offer: Callable[[bytes], bytes], eap_only: bool, subnets: bool, auth: FirstAuth
) -> list[Payload]:
    """With a certificate, CERT goes in front of the rest, and still no CERTREQ."""
    return [
        (e.IDI, auth.idi),
        *(e.certificate(der) for der in auth.chain_der),
        e.notify(16384),
        (e.IDR, auth.idr),
        *([(e.AUTH, auth.auth)] if auth.auth else []),
        e.configuration_request(1, 2, 6, 3, 8, 12, 10, 25, *((13, 15) if subnets else ())),
        e.notify(16394),
        e.notify(16395),
        (e.SA, child_offer(auth.spi)),
        (e.TSI, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        (e.TSR, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        e.notify(16396),
        *([e.notify(16417)] if eap_only else []),
    ]


def _apple(
    name: str,
    looks_like: str,
    suites: Sequence[Sequence[Transform]],
    child_offer: Callable[[bytes], bytes],
    *,
    ecdsa: bool = True,
    eap_only: bool = False,
    subnets: bool = False,
) -> NativeClient:
    groups = tuple(dict.fromkeys(transform[1] for suite in suites for transform in suite if transform[0] == e.KE))
    return NativeClient(
        name=name,
        looks_like=looks_like,
        groups=groups,
        nonce_bytes=16,
        init=partial(_init, ike_offer(suites)),
        first_auth=partial(_first_auth, child_offer, eap_only, subnets),
        child_offer=child_offer,
        message_bytes=532,
        ecdsa=ecdsa,
    )


IOS_SUITES = [
    _suite(AES_CBC_256, SHA256, MODP_2048),
    _suite(AES_CBC_256, SHA256, ECP_256),
    _suite(AES_CBC_256, SHA256, MODP_1536),
    _suite(AES_CBC_128, SHA1, MODP_1024),
    _suite(TRIPLE_DES, SHA1, MODP_1024),
]
MACOS_SUITES = [_suite(AES_CBC_256, SHA256, MODP_2048)]
PROFILE_SUITES = [_suite(AES_GCM_256, SHA384, ECP_384)]
NEWER_SUITES = [
    _suite(AES_GCM_256, SHA256, ECP_256),
    _suite(AES_GCM_256, SHA256, MODP_2048),
    _suite(AES_CBC_256, SHA256, ECP_256),
    _suite(AES_CBC_256, SHA256, MODP_2048),
]

_IOS_ESP = partial(_esp, [(AES_CBC_256, 12)] * 3 + [(AES_CBC_128, 2), (TRIPLE_DES, 2)])
_MACOS_ESP = partial(_esp, [(AES_CBC_256, 12)])
_GCM_ESP = partial(_esp, [(AES_GCM_256, 0)])
_NEWER_ESP = partial(_esp, [(AES_GCM_256, 0)] * 2 + [(AES_CBC_256, 12)] * 2)

IOS = _apple("iOS 16, set up by hand", "iOS", IOS_SUITES, _IOS_ESP, ecdsa=False)
MACOS = _apple("macOS 13, set up by hand", "Apple", MACOS_SUITES, _MACOS_ESP)
PROFILE = _apple("iOS or macOS, our profile", "Apple", PROFILE_SUITES, _GCM_ESP)
SUBNETS = _apple("iOS or macOS that asks for subnets", "Apple", PROFILE_SUITES, _GCM_ESP, subnets=True)
"""With UseConfigurationAttributeInternalIPSubnet."""
NEWER = _apple("iOS or macOS of 2023 and later, no suite in the profile", "Apple", NEWER_SUITES, _NEWER_ESP)
EAP_ONLY = _apple("iOS or macOS, EAP only", "Apple", NEWER_SUITES, _NEWER_ESP, eap_only=True)
