import pytest

from aaa.eap.md4 import md4
from tests.unit.aaa.eap.vectors import pairs


@pytest.mark.parametrize(("message", "digest"), pairs("rfc1320.txt"))
def test_rfc_1320_vectors(message: bytes, digest: bytes) -> None:
    assert md4(message) == digest


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (55, "92f32bb82c95ad10e8f87ae58ab06807"),
        (56, "374d5f08103b7092c83b4626ebceffab"),
        (64, "b1abf956a5ae6f3221e5fe85e300fbb0"),
    ],
)
def test_padding_around_the_block_boundary(size: int, digest: str) -> None:
    # 55 bytes are the most that share a block with their padding. The digests are those of Debian's
    # OpenSSL 3.0.19: openssl dgst -provider legacy -provider default -md4.
    assert md4(b"x" * size).hex() == digest
