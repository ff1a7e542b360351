"""What `aaa.enrolment` hands out is what the replayed clients offer, so that the one is tested with the other."""

from __future__ import annotations

import plistlib
import re
from typing import Any

from aaa.enrolment.apple import mobileconfig
from aaa.enrolment.target import Target
from aaa.enrolment.windows import powershell
from tests.peers.native import apple, windows
from tests.peers.native import encoding as e
from tests.peers.native.client import Init, NativeClient

TARGET = Target("vpn.example.com", "vpn.example.com", "alice")
SPI = b"\0\0\x10\1"

WINDOWS_CIPHERS = {"GCMAES256": (20, 256), "GCMAES128": (20, 128), "AES256": (12, 256)}
WINDOWS_PRFS = {"SHA256": 5, "SHA384": 6}
WINDOWS_GROUPS = {"ECP256": 19, "ECP384": 20, "Group14": 14}
APPLE_CIPHERS = {"AES-256-GCM": (20, 256), "AES-128-GCM": (20, 128)}
APPLE_PRFS = {"SHA2-256": 5, "SHA2-384": 6, "SHA2-512": 7}


def offered(client: NativeClient) -> bytes:
    """The SA payload of its IKE_SA_INIT."""
    (body,) = (body for kind, body in client.init(Init(b"", b"", b"", b"")) if kind == e.SA)
    return body


def one_suite(cipher: tuple[int, int], prf: int, group: int) -> bytes:
    """An IKE offer of one AEAD suite."""
    return e.sa(e.proposal(1, e.IKE, [(e.ENCR, *cipher), (e.PRF, prf, 0), (e.KE, group, 0)]))


def one_child(cipher: tuple[int, int]) -> bytes:
    """An ESP offer of one AEAD suite, without a key exchange."""
    return e.sa(e.proposal(1, e.ESP, [(e.ENCR, *cipher), (e.ESN, 0, 0)], SPI))


def test_windows() -> None:
    options = dict(re.findall(r"-(\w+) (\w+)", powershell(TARGET)))
    cipher = WINDOWS_CIPHERS[options["EncryptionMethod"]]
    prf, group = WINDOWS_PRFS[options["IntegrityCheckMethod"]], WINDOWS_GROUPS[options["DHGroup"]]
    assert offered(windows.PROFILE) == one_suite(cipher, prf, group)
    # An AEAD is named twice, as cipher and as integrity.
    assert options["CipherTransformConstants"] == options["AuthenticationTransformConstants"]
    assert windows.PROFILE.child_offer(SPI) == one_child(WINDOWS_CIPHERS[options["CipherTransformConstants"]])
    assert options["PfsGroup"] == "None"


def test_apple() -> None:
    parsed: dict[str, Any] = plistlib.loads(mobileconfig(TARGET, b""))
    connection = parsed["PayloadContent"][1]["IKEv2"]
    ike, child = connection["IKESecurityAssociationParameters"], connection["ChildSecurityAssociationParameters"]
    suite = (
        APPLE_CIPHERS[ike["EncryptionAlgorithm"]],
        APPLE_PRFS[ike["IntegrityAlgorithm"]],
        ike["DiffieHellmanGroup"],
    )
    assert offered(apple.PROFILE) == one_suite(*suite)
    assert apple.PROFILE.child_offer(SPI) == one_child(APPLE_CIPHERS[child["EncryptionAlgorithm"]])
    assert connection["EnablePFS"] == 1
    with_key_exchange = apple.profile_child_with_key_exchange(SPI)
    assert (e.KE, child["DiffieHellmanGroup"]) == (with_key_exchange[-12], with_key_exchange[-9])
