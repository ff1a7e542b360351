from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from core.settings import TrustedAuthoritySettings
from pki.errors import PkiError
from pki.trust import MOST_CERTIFICATES_IN_FILE, load_authorities, load_authority
from tests.unit.pki.foreign_forge import Company, pem, user_certificate
from tests.unit.pki.forge import DAY, NOW, Signer, ca_extensions, certify, self_signed

CORP = Company()
OWN = self_signed("Ostiary Root")


def settings(
    folder: Path, certificates: Iterable[x509.Certificate], name: str = "corporate"
) -> TrustedAuthoritySettings:
    file = folder / f"{name}.pem"
    file.write_bytes(pem(certificates))
    return TrustedAuthoritySettings(name=name, file=file, user_from="upn")


def test_tells_roots_from_cas_below_them(tmp_path: Path) -> None:
    second = self_signed("Second Root")
    everything = [CORP.issuing.certificate, CORP.root.certificate, second.certificate, CORP.root.certificate]
    loaded = load_authority(settings(tmp_path, everything))
    assert set(loaded.anchors) == {CORP.root.certificate, second.certificate}
    assert len(loaded.anchors) == 2
    assert loaded.intermediates == (CORP.issuing.certificate,)


def test_a_root_signed_with_sha1_is_a_root(tmp_path: Path) -> None:
    """Nothing rests on a root's own signature, and many companies' roots are that old."""
    file, key = tmp_path / "old.pem", tmp_path / "key.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -sha1 -keyout {key} -out {file} -subj /CN=Old -days 30"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=20)
    loaded = load_authority(TrustedAuthoritySettings(name="old", file=file, user_from="upn"))
    assert len(loaded.anchors) == 1


def test_a_ca_that_rolled_its_key_over_is_no_root(tmp_path: Path) -> None:
    """Self-issued, but signed by the key before."""
    old = CORP.root
    new_key = ec.generate_private_key(ec.SECP256R1())
    rolled = certify(
        old.certificate.subject,
        old.key,
        old.certificate.subject,
        new_key.public_key(),
        ca_extensions(None),
        begin=NOW - DAY,
        end=NOW + DAY,
    )
    loaded = load_authority(settings(tmp_path, [old.certificate, rolled]))
    assert (loaded.anchors, loaded.intermediates) == ((old.certificate,), (rolled,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "PEM"),
        (b"nothing", "PEM"),
        (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "PEM"),
        (pem([CORP.issuing.certificate]), "no root"),
        (pem([CORP.root.certificate, user_certificate(CORP.issuing)]), "not the certificate of a CA"),
        (pem([CORP.root.certificate] * (MOST_CERTIFICATES_IN_FILE + 1)), "more than"),
        (b" " * (1024 * 1024 + 1), "larger"),
    ],
    ids=["empty", "text", "broken", "no-root", "user", "many", "huge"],
)
def test_refuses_a_file_that_could_not_be_meant(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "corporate.pem"
    file.write_bytes(content)
    with pytest.raises(PkiError, match=message) as caught:
        load_authority(TrustedAuthoritySettings(name="corporate", file=file, user_from="upn"))
    assert str(file) in caught.value.message


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="No such file") as caught:
        load_authority(TrustedAuthoritySettings(name="corporate", file=tmp_path / "none", user_from="upn"))
    assert caught.value.fix


def test_refuses_our_own_ca(tmp_path: Path) -> None:
    """Its certificates would come in without being asked for in the register."""
    issuing = OWN.ca("Ostiary Issuing")
    for certificates in ([OWN.certificate], [CORP.root.certificate, issuing.certificate]):
        with pytest.raises(PkiError, match="Ostiary's own CA"):
            load_authorities([settings(tmp_path, certificates)], [OWN.certificate, issuing.certificate])


def test_refuses_our_own_key_under_another_name(tmp_path: Path) -> None:
    renamed = Signer(self_signed("Harmless").certificate, OWN.key)
    root = certify(
        renamed.certificate.subject,
        OWN.key,
        renamed.certificate.subject,
        OWN.key.public_key(),
        ca_extensions(None),
        begin=NOW - DAY,
        end=NOW + DAY,
    )
    with pytest.raises(PkiError, match="Ostiary's own CA"):
        load_authorities([settings(tmp_path, [root])], [OWN.certificate])


def test_refuses_a_ca_that_two_trust(tmp_path: Path) -> None:
    """Which of the two says who its users are?"""
    first = settings(tmp_path, [CORP.root.certificate])
    second = settings(tmp_path, [CORP.root.certificate], "partner")
    with pytest.raises(PkiError, match="belongs to corporate already"):
        load_authorities([first, second], [OWN.certificate])


def test_loads_several(tmp_path: Path) -> None:
    partner = Company("Partner")
    first = settings(tmp_path, [CORP.root.certificate, CORP.issuing.certificate])
    second = settings(tmp_path, [partner.root.certificate], "partner")
    loaded = load_authorities([first, second], [OWN.certificate])
    assert [authority.name for authority in loaded] == ["corporate", "partner"]
    assert len(loaded) == 2
