"""Windows 10 and 11: left alone, with the registry's MODP-2048, and with the suite of our PowerShell line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.peers.native import encoding as e
from tests.peers.native.client import FirstAuth, Init, NativeClient
from tests.peers.native.encoding import Payload, Transform

DES, TRIPLE_DES, NULL, AES_CBC, AES_GCM_16 = 2, 3, 11, 12, 20
SHA1, SHA256, SHA384 = (2, 2), (12, 5), (13, 6)
"""Integrity and PRF of one hash."""
HASHES = (SHA1, SHA256, SHA384)
MODP_1024, MODP_2048, ECP_384 = 2, 14, 20

V9 = bytes.fromhex("1e2b516905991c7d7c96fcbfb587e46100000009")
NEGOTIATION_DISCOVERY = bytes.fromhex("fb1de3cdf341b7ea16b7e5be0855f120")
INITIAL_CONTACT = bytes.fromhex("26244d38eddb61b3172a36e3d0cfb819")
UNNAMED = bytes.fromhex("01528bbbc00696121849ab9a1c5b2a5100000002")

KNOWN_AUTHORITIES = [bytes((number,)) * 20 for number in range(50)]
"""About as many as its root store has: they make the first IKE_AUTH request too long for one fragment."""
EARLIER_IPV6 = bytes.fromhex("fd990000000000000000000000000123") + b"\x40"


def _cbc(cipher: int, bits: int, hashed: tuple[int, int], group: int) -> list[Transform]:
    integrity, prf = hashed
    return [(e.ENCR, cipher, bits), (e.INTEG, integrity, 0), (e.PRF, prf, 0), (e.KE, group, 0)]


def _gcm(bits: int, hashed: tuple[int, int], group: int) -> list[Transform]:
    return [(e.ENCR, AES_GCM_16, bits), (e.PRF, hashed[1], 0), (e.KE, group, 0)]


def _ike(suites: Sequence[Sequence[Transform]], spi: bytes = b"") -> bytes:
    return e.sa(*(e.proposal(number, e.IKE, suite, spi) for number, suite in enumerate(suites, start=1)))


_OLD = [
    _cbc(cipher, bits, hashed, MODP_1024)
    for cipher, bits in ((TRIPLE_DES, 0), (AES_CBC, 128), (AES_CBC, 192), (AES_CBC, 256))
    for hashed in HASHES
]
_NEW = [_gcm(bits, hashed, MODP_1024) for bits in (128, 256) for hashed in HASHES]
_REGISTRY = [_cbc(AES_CBC, 256, hashed, MODP_2048) for hashed in HASHES]


def downgraded_offer(spi: bytes) -> bytes:
    """What it has been seen to offer when it rekeys: MODP-1024, whatever the registry says."""
    return _ike([_cbc(AES_CBC, 256, hashed, MODP_1024) for hashed in HASHES], spi)


def _init(offer: bytes, vendor_ids: Sequence[bytes], fragments: bool, init: Init) -> list[Payload]:
    return [
        (e.SA, offer),
        (e.KEY_EXCHANGE, init.key_exchange),
        (e.NONCE, init.nonce),
        *([e.notify(16430)] if fragments else []),
        e.notify(16388, init.nat_source),
        e.notify(16389, init.nat_destination),
        *((e.VENDOR_ID, vendor_id) for vendor_id in vendor_ids),
    ]


def _first_auth(child_offer: Callable[[bytes], bytes], auth: FirstAuth) -> list[Payload]:
    """It asks for any IPv4 address and for the IPv6 address that it had the last time."""
    request = e.configuration_request(1, 3, 4, 23456, (8, EARLIER_IPV6), 10, 23457)
    return [
        (e.IDI, auth.idi),
        *(e.certificate(der) for der in auth.chain_der),
        e.certificate_request(KNOWN_AUTHORITIES),
        *([(e.AUTH, auth.auth)] if auth.auth else []),
        e.notify(16396),
        request,
        (e.SA, child_offer(auth.spi)),
        (e.TSI, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        (e.TSR, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
    ]


def _old_child(spi: bytes) -> bytes:
    suites = ((AES_CBC, 256), (AES_CBC, 128), (TRIPLE_DES, 0), (DES, 0), (NULL, 0))
    return e.sa(
        *(
            e.proposal(number, e.ESP, [(e.ENCR, cipher, bits), (e.INTEG, 2, 0), (e.ESN, 0, 0)], spi)
            for number, (cipher, bits) in enumerate(suites, start=1)
        )
    )


def _profile_child(spi: bytes) -> bytes:
    return e.sa(e.proposal(1, e.ESP, [(e.ENCR, AES_GCM_16, 256), (e.ESN, 0, 0)], spi))


def _windows(
    name: str,
    looks_like: str,
    offer: bytes,
    group: int,
    child_offer: Callable[[bytes], bytes],
    *,
    vendor_ids: Sequence[bytes] = (V9, NEGOTIATION_DISCOVERY, UNNAMED),
    fragments: bool = True,
) -> NativeClient:
    return NativeClient(
        name=name,
        looks_like=looks_like,
        groups=(group,),
        nonce_bytes=48,
        init=partial(_init, offer, vendor_ids, fragments),
        first_auth=partial(_first_auth, child_offer),
        child_offer=child_offer,
        message_bytes=580 if fragments else None,
        sends_idr=False,
    )


WITH_CERTIFICATE = (V9, NEGOTIATION_DISCOVERY, INITIAL_CONTACT, UNNAMED)
"""It sends one vendor id more where a certificate is in play."""

PLAIN_OLD = _windows("Windows 7 to 10, left alone", "Windows 10 or older", _ike(_OLD), MODP_1024, _old_child)
PLAIN = _windows("Windows 11, left alone", "Windows 10 or 11", _ike(_OLD + _NEW), MODP_1024, _old_child)
REGISTRY = _windows("Windows, NegotiateDH2048_AES256 = 2", "Windows", _ike(_REGISTRY), MODP_2048, _old_child)
REGISTRY_CERTIFICATE = _windows(
    "Windows, NegotiateDH2048_AES256 = 2, certificate",
    "Windows",
    _ike(_REGISTRY),
    MODP_2048,
    _old_child,
    vendor_ids=WITH_CERTIFICATE,
)
PROFILE = _windows("Windows, our suite", "Windows", _ike([_gcm(256, SHA384, ECP_384)]), ECP_384, _profile_child)
PROFILE_CERTIFICATE = _windows(
    "Windows, our suite, certificate",
    "Windows",
    _ike([_gcm(256, SHA384, ECP_384)]),
    ECP_384,
    _profile_child,
    vendor_ids=WITH_CERTIFICATE,
)
BEFORE_1803 = _windows(
    "Windows 10 before 1803, one suite by PowerShell",
    "Windows",
    _ike([_cbc(AES_CBC, 128, SHA384, 19)]),
    19,
    _profile_child,
    vendor_ids=WITH_CERTIFICATE,
    fragments=False,
)
