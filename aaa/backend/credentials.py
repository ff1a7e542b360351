"""From what is stored or shown to what can be checked: NT hashes of access codes, and client certificates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog
from cryptography import x509

from aaa.backend.identity import certificate_holder
from aaa.backend.requests import Proof, StoredCode, Vouched
from aaa.eap.server import NtCredential
from aaa.interface import Refusal
from core.clock import utc_now
from core.secrets import SecretBox, SecretError
from pki.errors import CertificateRefused
from pki.foreign import ForeignAuthorities, ForeignClient
from pki.peer_certificate import Named, identity_matches, issuer_of
from pki.revocation.evidence import NOTHING_STAPLED, PathStatus, RevocationState, Stapled
from pki.revocation.service import RevocationService
from pki.verification import verify_client_chain

_REMEMBERED = 4096

_log = structlog.get_logger(__name__)


class NtHashes:
    """Decrypts NT hashes and remembers some by their ciphertext.

    A code that is replaced has another ciphertext, so what is remembered is never out of date; whether it still
    counts is asked of the database each time.
    """

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._known: OrderedDict[bytes, bytes] = OrderedDict()

    def credentials(self, codes: Iterable[StoredCode]) -> list[NtCredential]:
        """What EAP-MSCHAPv2 checks the peer's response against; the key of each is its device's id."""
        found = []
        for code in codes:
            nt_hash = self._decrypt(code)
            if nt_hash is not None:
                found.append(NtCredential(code.device_id, nt_hash))
        return found

    def _decrypt(self, code: StoredCode) -> bytes | None:
        known = self._known.get(code.encrypted_nt_hash)
        if known is not None:
            self._known.move_to_end(code.encrypted_nt_hash)
            return known
        try:
            nt_hash = self._box.decrypt(code.encrypted_nt_hash).reveal()
        except SecretError as error:
            _log.error("the access code of a device can't be decrypted", device_id=code.device_id, fix=error.fix)
            return None
        self._known[code.encrypted_nt_hash] = nt_hash
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return nt_hash


Checked = Callable[["Proof | Refusal"], None]


class CertificateChecker:
    """Checks a client certificate as far as that needs no database.

    Args:
        anchors: roots of ours.
        intermediates: issuing CAs of ours.
        foreign: CAs that are trusted beside ours.
        revocation: asks those whether they revoked a certificate; None where there are none.
        now: the time to judge dates by.
    """

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        foreign: ForeignAuthorities,
        revocation: RevocationService | None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._anchors = tuple(anchors)
        self._intermediates = tuple(intermediates)
        self._own_names = {ca.subject.public_bytes() for ca in (*anchors, *intermediates)}
        self._foreign = foreign
        self._revocation = revocation
        self._now = now

    def check(
        self,
        chain_der: Sequence[bytes],
        identity: str,
        method: str,
        checked: Checked,
        stapled: Stapled = NOTHING_STAPLED,
    ) -> None:
        """Find out what a certificate proves, once its holder has signed with its key; or why it proves nothing.

        Args:
            chain_der: end entity first.
            identity: what the holder calls itself, by EAP or by IDi; the certificate has to say so too.
            method: `eap-tls` or `certificate`.
            checked: called once with the answer; at once, or later where another CA is asked.
            stapled: what the holder sent along about its revocation.
        """
        if not self._foreign or self._is_ours(chain_der):
            checked(self._own_proof(chain_der, identity, method))
            return
        try:
            client = self._foreign.verify(chain_der, self._now())
        except CertificateRefused as error:
            checked(Refusal(error.code, error.reason))
            return
        mismatch = _mismatch(client, client.serial, identity)
        if mismatch is not None:
            checked(mismatch)
            return
        policy = self._foreign.named(client.authority).settings.revocation
        if policy == "off" or self._revocation is None:
            checked(_vouched(client, identity, method, "not asked"))
            return

        def known(status: PathStatus) -> None:
            if status.state is RevocationState.REVOKED:
                checked(Refusal("revoked-certificate", status.reason))
            elif status.state is RevocationState.GOOD or policy == "best-effort":
                checked(_vouched(client, identity, method, f"{status.state}: {status.reason}"))
            else:
                checked(Refusal("revocation-unknown", status.reason))

        self._revocation.check(client.authority, client.path, stapled, known)

    def _is_ours(self, chain_der: Sequence[bytes]) -> bool:
        """Whether it says that one of our CAs signed it, or says nothing that could be read."""
        issuer = issuer_of(chain_der)
        return issuer is None or issuer in self._own_names

    def _own_proof(self, chain_der: Sequence[bytes], identity: str, method: str) -> Proof | Refusal:
        try:
            verified = verify_client_chain(chain_der, self._anchors, self._intermediates, self._now())
        except CertificateRefused as error:
            return Refusal(error.code, error.reason)
        mismatch = _mismatch(verified, verified.serial, identity)
        return mismatch or Proof(method, identity, verified.device_id, certificate_serial=verified.serial)


def _mismatch(verified: Named, serial: str, identity: str) -> Refusal | None:
    if identity_matches(verified, certificate_holder(identity)):
        return None
    names = ", ".join(verified.identities[:4])
    return Refusal("identity-mismatch", f"the certificate {serial} belongs to {names}")


def _vouched(client: ForeignClient, identity: str, method: str, revocation: str) -> Proof:
    vouched = Vouched(
        authority=client.authority,
        names_user=client.names_user,
        user_names=client.user_names,
        device_id=client.device_id,
        device_names=client.device_names,
        holder_id=client.holder_id,
        revocation=revocation,
    )
    return Proof(method, identity, "", certificate_serial=client.serial, vouched=vouched)
