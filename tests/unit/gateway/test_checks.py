"""What `ostiary check` says of data plane and permissions."""

from __future__ import annotations

import pytest

from core.settings import GatewaySettings
from gateway.checks import capabilities, data_plane
from gateway.dataplane.kernel_esp import KernelEsp

HAS = KernelEsp(True, "this kernel has ESP")
LACKS = KernelEsp(True, "this kernel has ESP", missing=("CHACHA20_POLY1305/ESN", "ESP over IPv6"))
HAS_NOT = KernelEsp(False, "this kernel has no ESP with AES-GCM", "modprobe esp4")
NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13


@pytest.mark.parametrize(
    ("asked", "kernel", "ok", "message"),
    [
        ("auto", HAS, True, "kernel (this kernel has ESP)"),
        ("kernel", HAS, True, "kernel (this kernel has ESP)"),
        ("userspace", HAS, True, "userspace, ESP in Python (the settings say so)"),
        ("auto", LACKS, None, "kernel, which lacks CHACHA20_POLY1305/ESN, ESP over IPv6"),
        ("auto", HAS_NOT, True, "userspace, ESP in Python (this kernel has no ESP with AES-GCM)"),
        (
            "kernel",
            HAS_NOT,
            False,
            "the settings ask for the kernel's ESP, but this kernel has no ESP with AES-GCM",
        ),
    ],
)
def test_which_data_plane(asked: str, kernel: KernelEsp, ok: bool | None, message: str) -> None:
    found = data_plane(GatewaySettings.model_validate({"data_plane": asked}), kernel)
    assert (found.ok, found.message) == (ok, message)
    assert bool(found.fix) is not (ok is True)


@pytest.mark.parametrize(
    ("held", "in_kernel", "ok", "message"),
    [
        (NET_ADMIN | NET_BIND_SERVICE, True, True, "CAP_NET_ADMIN and CAP_NET_BIND_SERVICE are held"),
        (NET_ADMIN | NET_BIND_SERVICE, False, None, "plain ESP is off: no CAP_NET_RAW"),
        (NET_RAW | NET_BIND_SERVICE, True, False, "missing CAP_NET_ADMIN"),
        (0, False, False, "missing CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"),
    ],
)
def test_permissions(held: int, in_kernel: bool, ok: bool | None, message: str) -> None:
    found = capabilities(held, in_kernel=in_kernel)
    assert (found.ok, found.message) == (ok, message)
    assert ("CAP_NET_RAW" in found.fix) is (not in_kernel)


def test_all_of_them() -> None:
    found = capabilities(NET_ADMIN | NET_BIND_SERVICE | NET_RAW, in_kernel=False)
    assert found.ok
