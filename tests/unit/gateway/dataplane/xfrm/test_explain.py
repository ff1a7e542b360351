"""Refusals of the kernel in words."""

from __future__ import annotations

import errno

import pytest

from gateway.dataplane.interface import EspCipher, EspIntegrity, EspSuite
from gateway.dataplane.xfrm.explain import explain_policy, explain_state
from gateway.dataplane.xfrm.netlink import Verdict

STATE = "inbound SPI c0de0001 to 192.0.2.1"
CBC = EspSuite(EspCipher.AES_CBC, 256, EspIntegrity.HMAC_SHA2_256_128, True)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict(errno.EEXIST, ""), f"{STATE} is in use"),
        (
            Verdict(errno.ENOSYS, "Requested AUTH_TRUNC algorithm not found"),
            "this kernel has no cbc(aes) and hmac(sha256) for AES_CBC_256/HMAC_SHA2_256_128/ESN"
            " (the kernel: Requested AUTH_TRUNC algorithm not found)",
        ),
        (
            Verdict(errno.ENOENT, ""),
            "this kernel has no cbc(aes) and hmac(sha256) for AES_CBC_256/HMAC_SHA2_256_128/ESN",
        ),
        (Verdict(errno.EPROTONOSUPPORT, ""), f"{STATE}: this kernel has no ESP for its IP version"),
        (Verdict(errno.EPERM, ""), "the gateway may not use the kernel's IPsec (no CAP_NET_ADMIN)"),
        (Verdict(errno.ENOMEM, ""), f"{STATE}: the kernel has no memory left"),
        (Verdict(errno.EINVAL, "Invalid"), f"{STATE}: Invalid argument (the kernel: Invalid)"),
    ],
)
def test_states(verdict: Verdict, text: str) -> None:
    assert explain_state(verdict, STATE, CBC) == text


def test_policies() -> None:
    assert "another program on this machine" in explain_policy(Verdict(errno.EEXIST, ""))
    assert explain_policy(Verdict(errno.ENOBUFS, "")) == "its policies: the kernel has no memory left"
    assert "CAP_NET_ADMIN" in explain_policy(Verdict(errno.EPERM, ""))
