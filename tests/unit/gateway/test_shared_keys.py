"""Files of keys that are shared beforehand: how they are read, and which of them keep nobody out."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from core.settings import GatewaySettings, PpkSettings, SitePeerSettings
from gateway.checks import shared_keys
from gateway.ike.constants import IdType
from gateway.ike.payloads.identification import Identification
from gateway.shared_keys import SharedKeyError, identity_of, load_ppks, load_site_peers

TEXT = b"correct horse battery staple, and then some more"
RANDOM = bytes(range(7, 39))


def key_file(folder: Path, content: bytes, name: str = "branch.key", mode: int = 0o600) -> Path:
    """A file with this in it."""
    file = folder / name
    file.write_bytes(content)
    file.chmod(mode)
    return file


def site(file: Path, name: str = "branch", third: int = 0) -> SitePeerSettings:
    """A site with a network of its own."""
    return SitePeerSettings.model_validate(
        {
            "name": name,
            "identity": f"{name}.example",
            "secret_file": file,
            "networks": [f"10.20.{third}.0/24"],
        }
    )


def secret_in(content: bytes, folder: Path) -> bytes:
    """What is taken from a file."""
    (peer,) = load_site_peers(GatewaySettings(site_peers=(site(key_file(folder, content)),)))
    return peer.secret


class TestContent:
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_text(self, tmp_path: Path, end: bytes) -> None:
        assert secret_in(TEXT + end, tmp_path) == TEXT

    def test_only_one_line_end_is_no_part(self, tmp_path: Path) -> None:
        assert secret_in(TEXT + b" \n\n", tmp_path) == TEXT + b" \n"

    def test_hexadecimal(self, tmp_path: Path) -> None:
        assert secret_in(b"0x" + RANDOM.hex().encode() + b"\n", tmp_path) == RANDOM

    def test_base64(self, tmp_path: Path) -> None:
        assert secret_in(b"0s" + base64.b64encode(RANDOM), tmp_path) == RANDOM

    @pytest.mark.parametrize("content", [b"0xabc" + b"0" * 40, b"0xzz" + b"0" * 40, b"0s====", b"0s!" + b"A" * 43])
    def test_what_is_not_what_it_says(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(SharedKeyError, match="neither text nor what its first two characters say"):
            secret_in(content, tmp_path)


class TestRefused:
    @pytest.mark.parametrize("size", [0, 1, 19, 1025])
    def test_by_length(self, tmp_path: Path, size: int) -> None:
        with pytest.raises(SharedKeyError, match=f"has {size} bytes, and not 20 to 1024") as refused:
            secret_in((RANDOM * 40)[:size], tmp_path)
        assert "head -c 32 /dev/urandom" in str(refused.value.fix)

    @pytest.mark.parametrize(
        "content", [b"a" * 64, b"abcabcabcabcabcabcabcabcabc", b"11111111112222222222", b"\0" * 40]
    )
    def test_what_can_be_guessed(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(SharedKeyError, match="can be guessed"):
            secret_in(content, tmp_path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
    def test_what_others_can_read_or_write(self, tmp_path: Path, mode: int) -> None:
        file = key_file(tmp_path, TEXT, mode=mode)
        with pytest.raises(SharedKeyError, match="can be read by others") as refused:
            load_site_peers(GatewaySettings(site_peers=(site(file),)))
        assert refused.value.fix == f"chmod 600 {file}"

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SharedKeyError, match="No such file"):
            load_site_peers(GatewaySettings(site_peers=(site(tmp_path / "none"),)))

    def test_one_key_for_two(self, tmp_path: Path) -> None:
        files = key_file(tmp_path, TEXT), key_file(tmp_path, TEXT + b"\n", "plant.key")
        sites = site(files[0]), site(files[1], "plant", 1)
        with pytest.raises(SharedKeyError, match="branch and plant have the same key"):
            load_site_peers(GatewaySettings(site_peers=sites))

    def test_no_message_has_a_key_in_it(self, tmp_path: Path) -> None:
        for content in (b"a-short-secret", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"0xsecret-secret-secret-secret"):
            with pytest.raises(SharedKeyError) as refused:
                secret_in(content, tmp_path)
            assert content.decode() not in str(refused.value)


class TestPpks:
    def test_by_their_names(self, tmp_path: Path) -> None:
        ppk = PpkSettings(name="quantum-1", secret_file=key_file(tmp_path, b"0x" + RANDOM.hex().encode()))
        assert load_ppks(GatewaySettings(ppks=(ppk,))) == {b"quantum-1": RANDOM}

    def test_they_are_longer_than_other_keys(self, tmp_path: Path) -> None:
        ppk = PpkSettings(name="quantum-1", secret_file=key_file(tmp_path, b"0x" + RANDOM[:31].hex().encode()))
        with pytest.raises(SharedKeyError, match="has 31 bytes, and not 32"):
            load_ppks(GatewaySettings(ppks=(ppk,)))

    def test_none(self) -> None:
        assert load_ppks(GatewaySettings()) == {}
        assert load_site_peers(GatewaySettings()) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("branch.example", Identification(IdType.FQDN, b"branch.example")),
        ("admin@branch.example", Identification(IdType.RFC822_ADDR, b"admin@branch.example")),
        ("198.51.100.7", Identification(IdType.IPV4_ADDR, bytes((198, 51, 100, 7)))),
        ("2001:db8::7", Identification(IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000007"))),
    ],
)
def test_identities(text: str, expected: Identification) -> None:
    assert identity_of(text) == expected


class TestCheck:
    def test_nothing_is_said_where_there_are_none(self) -> None:
        assert shared_keys(GatewaySettings()) == []

    def test_good_and_bad(self, tmp_path: Path) -> None:
        ppk = PpkSettings(name="quantum-1", secret_file=key_file(tmp_path, TEXT, "ppk"))
        settings = GatewaySettings(site_peers=(site(tmp_path / "none"),), ppks=(ppk,))
        sites, ppks = shared_keys(settings)
        assert (sites.ok, sites.message) == (
            False,
            f"the key file {tmp_path}/none can't be read: No such file or directory",
        )
        assert "head -c 32" in sites.fix
        assert (ppks.ok, ppks.message) == (True, "quantum-1")
