"""Whether the kernel has ESP: asked by making security associations and taking them away again."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from gateway.dataplane.interface import Address, EspCipher, EspIntegrity, EspKeys, EspLifetime, EspSuite
from gateway.dataplane.xfrm.netlink import Verdict
from gateway.dataplane.xfrm.sockets import KernelSilent, XfrmSocket
from gateway.dataplane.xfrm.states import NewState, Replay, StateId
from gateway.dataplane.xfrm.structures import Command

_GCM = EspSuite(EspCipher.AES_GCM_16, 128, EspIntegrity.NONE, True)
_OTHERS = (
    (EspSuite(EspCipher.CHACHA20_POLY1305, 256, EspIntegrity.NONE, True), 36, 0),
    (EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_256_128, True), 32, 32),
    (EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_384_192, True), 32, 48),
    (EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_512_256, True), 32, 64),
)
"""With the octets of their keys."""
_IPV4, _IPV6 = IPv4Address("127.0.0.1"), IPv6Address("::1")
_SPI = 0x0577_1A27
_LIFETIME = EspLifetime(hard_s=2.0)
"""After which the kernel drops the association by itself, should this process die in between."""


@dataclass(frozen=True, slots=True)
class KernelEsp:
    """What the kernel said."""

    available: bool
    reason: str
    """Half a sentence for the operator."""
    fix: str = ""
    """What to do about it, where it is not available."""
    missing: tuple[str, ...] = ()
    """Of an available one: what child SAs can't use."""


def kernel_esp() -> KernelEsp:
    """Make an ESP association with each suite on the loopback addresses, which nothing uses, and delete it.

    Loads the kernel's modules for it where there are some. Takes CAP_NET_ADMIN.
    """
    try:
        with XfrmSocket() as xfrm:
            verdict = _try(xfrm, _GCM, 20, 0, _IPV4)
            if verdict.code:
                return _refusal(verdict)
            missing = [str(suite) for suite, key, mac in _OTHERS if _try(xfrm, suite, key, mac, _IPV4).code]
            if _try(xfrm, _GCM, 20, 0, _IPV6).code:
                missing.append("ESP over IPv6")
    except (OSError, KernelSilent) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return KernelEsp(False, f"this kernel has no XFRM ({reason})", _LOAD)
    return KernelEsp(True, "this kernel has ESP", missing=tuple(missing))


_LOAD = (
    "load its modules (`modprobe -a xfrm_user esp4 esp6`), take a kernel that has them, or set gateway.data_plane "
    'to "auto" or "userspace"'
)


def _refusal(verdict: Verdict) -> KernelEsp:
    if verdict.code == errno.EPERM:
        return KernelEsp(
            False,
            "the gateway may not use the kernel's ESP (no CAP_NET_ADMIN)",
            "run the gateway as root, or give it CAP_NET_ADMIN",
        )
    if verdict.code in (errno.EPROTONOSUPPORT, errno.ENOSYS, errno.ENOENT):
        return KernelEsp(False, "this kernel has no ESP with AES-GCM", _LOAD)
    return KernelEsp(False, f"this kernel refuses an ESP association ({os.strerror(verdict.code)})", _LOAD)


def _try(xfrm: XfrmSocket, suite: EspSuite, key_bytes: int, integrity_bytes: int, address: Address) -> Verdict:
    """Make an association and delete it; one that is there already shows as well that it can be made."""
    # The keys protect nothing, and are not ones that anyone can know.
    state = NewState(
        StateId(address, _SPI),
        address,
        0,
        suite,
        EspKeys(os.urandom(key_bytes), os.urandom(integrity_bytes)),
        _LIFETIME,
        Replay(64),
        None,
    )
    verdict, _ = xfrm.execute([(Command.NEWSA, state.to_bytes()), (Command.DELSA, state.id.to_bytes())])
    return Verdict(0, "") if verdict.code == errno.EEXIST else verdict
