"""What the kernel's refusals mean, in words that name the cause."""

from __future__ import annotations

import errno
import os

from gateway.dataplane.interface import EspSuite
from gateway.dataplane.xfrm.algorithms import algorithm_names
from gateway.dataplane.xfrm.netlink import Verdict

_NO_ALGORITHM = frozenset((errno.ENOSYS, errno.ENOENT, errno.ELIBBAD))
"""What the kernel says when its crypto layer has no algorithm of a name, or can't set it up."""


def _with_kernels_words(text: str, verdict: Verdict) -> str:
    return f"{text} (the kernel: {verdict.text})" if verdict.text else text


def explain_state(verdict: Verdict, state: str, suite: EspSuite) -> str:
    """Why a state could not be made.

    Args:
        verdict: what the kernel said.
        state: names it, such as `inbound SPI 12345678 to 192.0.2.1`.
        suite: of the state.
    """
    if verdict.code == errno.EEXIST:
        return f"{state} is in use"
    if verdict.code in _NO_ALGORITHM:
        return _with_kernels_words(f"this kernel has no {algorithm_names(suite)} for {suite}", verdict)
    if verdict.code == errno.EPROTONOSUPPORT:
        return _with_kernels_words(f"{state}: this kernel has no ESP for its IP version", verdict)
    return explain(verdict, state)


def explain_policy(verdict: Verdict) -> str:
    """Why a policy could not be made."""
    if verdict.code == errno.EEXIST:
        return "another program on this machine has an IPsec policy for the same packets"
    return explain(verdict, "its policies")


def explain(verdict: Verdict, what: str) -> str:
    """Why something could not be done, where there is nothing special to it."""
    if verdict.code == errno.EPERM:
        return "the gateway may not use the kernel's IPsec (no CAP_NET_ADMIN)"
    if verdict.code in (errno.ENOMEM, errno.ENOBUFS):
        return f"{what}: the kernel has no memory left"
    return _with_kernels_words(f"{what}: {os.strerror(verdict.code)}", verdict)
