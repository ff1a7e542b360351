"""What the other tests take for granted of the guest, so that a failure there is the product's."""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
from pathlib import Path

import pytest

from gateway.dataplane.kernel_esp import kernel_esp
from tests.kernel.machine import CHECKOUT, RESULTS_VARIABLE
from tests.lab.namespaces import Lab, drop_ip_fragments, link, masquerade, run

UDP_ENCAP = 100
UDP_ENCAP_ESPINUDP = 2
NETLINK_XFRM = 6
XFRM_GROUP_EXPIRE = 2
XFRM_MSG_EXPIRE = 0x18
NON_ESP_MARKER = bytes(4)
NETLINK_HEADER = struct.Struct("=IHHII")


def aead(name: str, key_bytes: int) -> tuple[str, ...]:
    return ("aead", name, f"0x{'5a' * key_bytes}", "128")


def cbc(key_bytes: int, integrity: str, integrity_bytes: int, truncated_bits: int) -> tuple[str, ...]:
    integrity_words = ("auth-trunc", integrity, f"0x{'5a' * integrity_bytes}", str(truncated_bits))
    return ("enc", "cbc(aes)", f"0x{'5a' * key_bytes}", *integrity_words)


def state(source: str, destination: str) -> tuple[str, ...]:
    return ("src", source, "dst", destination, "proto", "esp", "spi", "0x1000")


def test_the_kernel_is_ours_and_has_esp() -> None:
    assert platform.release().endswith("-ostiary")
    assert kernel_esp().available


def test_only_memory_and_the_results_can_be_written() -> None:
    for place in (CHECKOUT, Path("/root"), Path("/var/tmp"), Path("/")):
        with pytest.raises(OSError, match="Read-only") as refused:
            (place / "written-by-a-guest").touch()
        assert refused.value.errno == errno.EROFS
    for place in (Path("/tmp"), Path("/run"), Path(os.environ[RESULTS_VARIABLE])):
        (place / "written").touch()


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("::1", "::2")], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    "algorithms",
    [
        pytest.param(aead("rfc4106(gcm(aes))", 20), id="aes-gcm-128"),
        pytest.param(aead("rfc4106(gcm(aes))", 36), id="aes-gcm-256"),
        pytest.param(aead("rfc7539esp(chacha20,poly1305)", 36), id="chacha20-poly1305"),
        pytest.param(cbc(16, "hmac(sha256)", 32, 128), id="aes-cbc-sha256"),
        pytest.param(cbc(24, "hmac(sha384)", 48, 192), id="aes-cbc-sha384"),
        pytest.param(cbc(32, "hmac(sha512)", 64, 256), id="aes-cbc-sha512"),
    ],
)
def test_esp_with_every_suite(algorithms: tuple[str, ...], addresses: tuple[str, str]) -> None:
    window = ("mode", "tunnel", "replay-window", "256", "flag", "esn")
    run(["ip", "xfrm", "state", "add", *state(*addresses), *window, *algorithms])
    try:
        shown = run(["ip", "xfrm", "state"])
    finally:
        run(["ip", "xfrm", "state", "delete", *state(*addresses)])
    assert algorithms[1] in shown
    assert "esn" in shown


def test_lifetimes_end_by_events() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM) as events:
        events.bind((0, XFRM_GROUP_EXPIRE))
        events.settimeout(5)
        limits = ("limit", "time-soft", "1", "limit", "time-hard", "2")
        addresses = ("127.0.0.1", "127.0.0.2")
        run(
            [
                "ip",
                "xfrm",
                "state",
                "add",
                *state(*addresses),
                "mode",
                "tunnel",
                *limits,
                *aead("rfc4106(gcm(aes))", 20),
            ]
        )
        kinds = [NETLINK_HEADER.unpack_from(events.recv(65536))[1] for _ in range(2)]
    assert kinds == [XFRM_MSG_EXPIRE, XFRM_MSG_EXPIRE]
    assert run(["ip", "xfrm", "state"]) == ""


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_esp_in_udp_is_taken_by_the_kernel_and_ike_is_not(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as gateway, socket.socket(family, socket.SOCK_DGRAM) as client:
        gateway.bind((address, 4500))
        gateway.settimeout(2)
        gateway.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
        for datagram in (b"\xff", b"\0\0\x10\x01" + bytes(40), NON_ESP_MARKER + b"IKE"):
            client.sendto(datagram, (address, 4500))
        assert gateway.recv(100) == NON_ESP_MARKER + b"IKE"


def test_interfaces_filters_and_bad_links() -> None:
    with Lab() as lab:
        near, far = lab.namespace("near"), lab.namespace("far")
        link(near, far, names=("one", "two"), first_addresses=["10.0.0.1/24"], second_addresses=["10.0.0.2/24"])
        masquerade(near, "one")
        drop_ip_fragments(near)
        near.run("tc", "qdisc", "add", "dev", "one", "root", "netem", "delay", "20ms")
        near.ip("link", "add", "xfrm0", "type", "xfrm", "dev", "one", "if_id", "7")
        near.ip("tuntap", "add", "tun0", "mode", "tun")
        assert near.links() == {"one", "xfrm0", "tun0"}
        assert near.ping("10.0.0.2", count=2) == 2
