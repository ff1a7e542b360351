"""Android's own client (Settings, VPN), and strongSwan's app.

In what order the transform types of Android's proposals come is a guess; their numbers are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.peers.native import encoding as e
from tests.peers.native.client import FirstAuth, Init, NativeClient
from tests.peers.native.encoding import Payload, Transform

AES_CBC, AES_CTR, AES_GCM_8, AES_GCM_12, AES_GCM_16, CHACHA20 = 12, 13, 18, 19, 20, 28
SHA1, XCBC, CMAC, SHA256, SHA384, SHA512 = 2, 5, 8, 12, 13, 14
PRF_SHA1, PRF_XCBC, PRF_SHA256, PRF_SHA384, PRF_SHA512, PRF_CMAC = 2, 4, 5, 6, 7, 8
MODP_2048, MODP_3072, MODP_4096, MODP_8192, ECP_256, ECP_384, ECP_521, CURVE25519, CURVE448 = (
    14, 15, 16, 18, 19, 20, 21, 31, 32,
)  # fmt: skip
HASHES = b"\0\1\0\2\0\3\0\4"
KEY_BITS = (256, 192, 128)


def _offer(protocol: int, spi: bytes, *proposals: dict[int, Sequence[int | tuple[int, int]]]) -> bytes:
    """Proposals as transform type to ids, a cipher with its key length as a pair."""
    encoded = []
    for number, types in enumerate(proposals, start=1):
        transforms: list[Transform] = []
        for kind, ids in types.items():
            transforms += [(kind, *one) if isinstance(one, tuple) else (kind, one, 0) for one in ids]
        encoded.append(e.proposal(number, protocol, transforms, spi))
    return e.sa(*encoded)


def _sizes(*ciphers: int) -> list[int | tuple[int, int]]:
    return [(cipher, bits) for cipher in ciphers for bits in KEY_BITS]


# --- The built-in client --------------------------------------------------------------------------------------

_GROUPS_11 = (MODP_4096, MODP_3072, MODP_2048)
_PRFS_11 = (PRF_XCBC, PRF_SHA1)
_OFFER_11 = _offer(
    e.IKE,
    b"",
    {e.ENCR: _sizes(AES_CBC), e.INTEG: (SHA512, SHA384, SHA256, XCBC), e.KE: _GROUPS_11, e.PRF: _PRFS_11},
    {e.ENCR: _sizes(AES_GCM_16, AES_GCM_12, AES_GCM_8), e.KE: _GROUPS_11, e.PRF: _PRFS_11},
)
_GROUPS_12 = (MODP_4096, CURVE25519, MODP_3072, MODP_2048)
_PRFS_12 = (PRF_SHA512, PRF_SHA384, PRF_SHA256, PRF_XCBC, PRF_CMAC, PRF_SHA1)
_OFFER_12 = _offer(
    e.IKE,
    b"",
    {
        e.ENCR: _sizes(AES_CTR, AES_CBC),
        e.INTEG: (SHA512, SHA384, SHA256, XCBC, CMAC),
        e.KE: _GROUPS_12,
        e.PRF: _PRFS_12,
    },
    {e.ENCR: [CHACHA20, *_sizes(AES_GCM_16, AES_GCM_12, AES_GCM_8)], e.KE: _GROUPS_12, e.PRF: _PRFS_12},
)


def _child_11(spi: bytes) -> bytes:
    return _offer(
        e.ESP,
        spi,
        {e.ENCR: _sizes(AES_CBC), e.INTEG: (SHA512, SHA384, SHA256), e.ESN: (0,)},
        {e.ENCR: _sizes(AES_GCM_16, AES_GCM_12, AES_GCM_8), e.ESN: (0,)},
    )


def _child_12(spi: bytes) -> bytes:
    return _offer(
        e.ESP,
        spi,
        {e.ENCR: _sizes(AES_CTR, AES_CBC), e.INTEG: (SHA512, SHA384, SHA256, XCBC, CMAC), e.ESN: (0,)},
        {e.ENCR: [CHACHA20, *_sizes(AES_GCM_16, AES_GCM_12, AES_GCM_8)], e.ESN: (0,)},
    )


def _init(offer: bytes, init: Init) -> list[Payload]:
    return [
        (e.SA, offer),
        (e.KEY_EXCHANGE, init.key_exchange),
        (e.NONCE, init.nonce),
        e.notify(16388, init.nat_source),
        e.notify(16389, init.nat_destination),
        e.notify(16430),
        e.notify(16431, HASHES),
    ]


def _first_auth(
    child_offer: Callable[[bytes], bytes], attributes: Sequence[int], mobike: bool, auth: FirstAuth
) -> list[Payload]:
    """Never a CERTREQ; the application version is last of what it asks for."""
    return [
        (e.IDI, auth.idi),
        (e.IDR, auth.idr),
        *([e.notify(16396)] if mobike else []),
        *(e.certificate(der) for der in auth.chain_der),
        *([(e.AUTH, auth.auth)] if auth.auth else []),
        (e.SA, child_offer(auth.spi)),
        (e.TSI, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        (e.TSR, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        e.configuration_request(*attributes),
    ]


ANDROID_11 = NativeClient(
    name="Android 11",
    looks_like="Android 11",
    groups=_GROUPS_11,
    nonce_bytes=32,
    init=partial(_init, _OFFER_11),
    first_auth=partial(_first_auth, _child_11, (1, 8, 3, 10, 2, 7), False),
    child_offer=_child_11,
    hashes=HASHES,
    ecdsa=False,
    compares_idr=True,
)
ANDROID_12 = NativeClient(
    name="Android 13",
    looks_like="Android 12 or newer",
    groups=_GROUPS_12,
    nonce_bytes=32,
    init=partial(_init, _OFFER_12),
    first_auth=partial(_first_auth, _child_12, (1, 8, 3, 10, 7), True),
    child_offer=_child_12,
    hashes=HASHES,
    ecdsa=False,
    compares_idr=True,
)
