"""strongSwan's app for Android, NetworkManager's strongSwan, and libreswan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.peers.native import encoding as e
from tests.peers.native.client import FirstAuth, Init, NativeClient
from tests.peers.native.encoding import Payload, Transform

AES_CBC, AES_GCM_16, CHACHA20 = 12, 20, 28
MODP_2048, MODP_3072, MODP_4096, MODP_8192, ECP_256, ECP_384, ECP_521, CURVE25519, CURVE448 = (
    14, 15, 16, 18, 19, 20, 21, 31, 32,
)  # fmt: skip
HASHES = b"\0\2\0\3\0\4\0\5"
LIBRESWAN_HASHES = b"\0\2\0\3\0\4"


def _transforms(
    ciphers: Sequence[tuple[int, int]],
    integrity: Sequence[int] = (),
    prfs: Sequence[int] = (),
    groups: Sequence[int] = (),
    *,
    esn: bool = False,
) -> list[Transform]:
    return [
        *((e.ENCR, cipher, bits) for cipher, bits in ciphers),
        *((e.INTEG, one, 0) for one in integrity),
        *((e.PRF, one, 0) for one in prfs),
        *((e.KE, one, 0) for one in groups),
        *([(e.ESN, 0, 0)] if esn else []),
    ]


# --- strongSwan -----------------------------------------------------------------------------------------------

_GROUPS = (CURVE25519, CURVE448, ECP_256, ECP_384, ECP_521, MODP_3072, MODP_4096, MODP_8192, MODP_2048)
_PRFS = (5, 6, 7, 4, 2)
_STRONGSWAN_IKE = e.sa(
    e.proposal(
        1, e.IKE, _transforms([(AES_CBC, 128), (AES_CBC, 192), (AES_CBC, 256)], (12, 13, 14, 2, 5), _PRFS, _GROUPS)
    ),
    e.proposal(
        2,
        e.IKE,
        _transforms([(AES_GCM_16, 128), (AES_GCM_16, 192), (AES_GCM_16, 256), (CHACHA20, 0)], (), _PRFS, _GROUPS),
    ),
)


def _app_child(spi: bytes) -> bytes:
    """All twice: with key exchanges, which IKE_AUTH has no room for, and without."""
    aead = _transforms([(AES_GCM_16, 256), (AES_GCM_16, 128), (CHACHA20, 0)], esn=True)
    cbc = _transforms([(AES_CBC, 256), (AES_CBC, 192), (AES_CBC, 128)], (13, 12, 14, 2), esn=True)
    return e.sa(*(e.proposal(number, e.ESP, one, spi) for number, one in enumerate((aead, cbc) * 2, start=1)))


def _default_child(spi: bytes) -> bytes:
    cbc = _transforms([(AES_CBC, 128), (AES_CBC, 192), (AES_CBC, 256)], (12, 13, 14, 2, 5), esn=True)
    aead = _transforms([(AES_GCM_16, 128), (AES_GCM_16, 192), (AES_GCM_16, 256), (CHACHA20, 0)], esn=True)
    return e.sa(e.proposal(1, e.ESP, cbc, spi), e.proposal(2, e.ESP, aead, spi))


def _init(init: Init) -> list[Payload]:
    return [
        (e.SA, _STRONGSWAN_IKE),
        (e.KEY_EXCHANGE, init.key_exchange),
        (e.NONCE, init.nonce),
        e.notify(16388, init.nat_source),
        e.notify(16389, init.nat_destination),
        e.notify(16430),
        e.notify(16431, HASHES),
        e.notify(16406),
    ]


def _forced_encapsulation(init: Init) -> list[Payload]:
    """Its source hash is no address of anybody's, so that ESP always goes by UDP."""
    return [e.notify(16388, bytes(20)) if one == e.notify(16388, init.nat_source) else one for one in _init(init)]


def _first_auth(child_offer: Callable[[bytes], bytes], auth: FirstAuth) -> list[Payload]:
    return [
        (e.IDI, auth.idi),
        *(e.certificate(der) for der in auth.chain_der),
        e.notify(16384),
        e.certificate_request([b"\xca" * 20]),
        *([(e.AUTH, auth.auth)] if auth.auth else []),
        e.configuration_request(1, 8, 3, 10),
        (e.SA, child_offer(auth.spi)),
        (e.TSI, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        (e.TSR, e.selectors(e.ALL_IPV4, e.ALL_IPV6)),
        e.notify(16396),
        e.notify(16399),
        e.notify(16404),
        e.notify(16417),
        e.notify(16420),
    ]


STRONGSWAN_APP = NativeClient(
    name="strongSwan for Android",
    looks_like="strongSwan for Android",
    groups=_GROUPS,
    nonce_bytes=32,
    init=_forced_encapsulation,
    first_auth=partial(_first_auth, _app_child),
    child_offer=_app_child,
    hashes=HASHES,
    sends_idr=False,
)
NETWORK_MANAGER = NativeClient(
    name="NetworkManager with strongSwan",
    looks_like="strongSwan",
    groups=_GROUPS,
    nonce_bytes=32,
    init=_init,
    first_auth=partial(_first_auth, _default_child),
    child_offer=_default_child,
    hashes=HASHES,
    sends_idr=False,
)

# --- libreswan ------------------------------------------------------------------------------------------------

_LIBRESWAN_GROUPS = (ECP_256, ECP_384, ECP_521, CURVE25519, MODP_4096, MODP_3072, MODP_2048, MODP_8192)
_LIBRESWAN_SUITES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (AES_GCM_16, 256, ()),
    (AES_GCM_16, 128, ()),
    (CHACHA20, 0, ()),
    (AES_CBC, 256, (14, 12)),
    (AES_CBC, 128, (14, 12)),
)
_LIBRESWAN_IKE = e.sa(
    *(
        e.proposal(number, e.IKE, _transforms([(cipher, bits)], integrity, (7, 5), _LIBRESWAN_GROUPS))
        for number, (cipher, bits, integrity) in enumerate(_LIBRESWAN_SUITES, start=1)
    )
)


def _libreswan_child(spi: bytes) -> bytes:
    return e.sa(
        *(
            e.proposal(number, e.ESP, _transforms([(cipher, bits)], integrity, esn=True), spi)
            for number, (cipher, bits, integrity) in enumerate(_LIBRESWAN_SUITES, start=1)
        )
    )


def _libreswan_init(init: Init) -> list[Payload]:
    return [
        (e.SA, _LIBRESWAN_IKE),
        (e.KEY_EXCHANGE, init.key_exchange),
        (e.NONCE, init.nonce),
        e.notify(16430),
        e.notify(16431, LIBRESWAN_HASHES),
        e.notify(16388, init.nat_source),
        e.notify(16389, init.nat_destination),
    ]


def _libreswan_first_auth(auth: FirstAuth) -> list[Payload]:
    return [
        (e.IDI, auth.idi),
        *(e.certificate(der) for der in auth.chain_der),
        e.certificate_request([b"\xca" * 20]),
        (e.IDR, auth.idr),
        *([(e.AUTH, auth.auth)] if auth.auth else []),
        e.configuration_request(1, 3, 8, 10, 25),
        (e.SA, _libreswan_child(auth.spi)),
        (e.TSI, e.selectors(e.ALL_IPV4)),
        (e.TSR, e.selectors(e.ALL_IPV4)),
        e.notify(16396),
    ]


LIBRESWAN = NativeClient(
    name="libreswan",
    looks_like="libreswan",
    groups=_LIBRESWAN_GROUPS,
    nonce_bytes=32,
    init=_libreswan_init,
    first_auth=_libreswan_first_auth,
    child_offer=_libreswan_child,
    hashes=LIBRESWAN_HASHES,
    ranges=(e.ALL_IPV4,),
)
