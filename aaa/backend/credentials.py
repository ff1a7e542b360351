"""From what is stored or shown to what can be checked: NT hashes of access codes, and client certificates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog
from cryptography import x509

from aaa.backend.identity import certificate_holder
from aaa.backend.requests import Proof, StoredCode
from aaa.eap.server import NtCredential
from aaa.interface import Refusal
from core.clock import utc_now
from core.secrets import SecretBox, SecretError
from pki.errors import CertificateRefused
from pki.peer_certificate import identity_matches
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


class CertificateChecker:
    """Checks a client certificate as far as that needs no database.

    Args:
        anchors: roots of ours.
        intermediates: issuing CAs of ours.
        now: the time to judge dates by.
    """

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._anchors = tuple(anchors)
        self._intermediates = tuple(intermediates)
        self._now = now

    def proof(self, chain_der: Sequence[bytes], identity: str, method: str) -> Proof | Refusal:
        """What a certificate proves, once its holder has signed with its key; or why it proves nothing.

        Args:
            chain_der: end entity first.
            identity: what the holder calls itself, by EAP or by IDi; the certificate has to say so too.
            method: `eap-tls` or `certificate`.
        """
        try:
            verified = verify_client_chain(chain_der, self._anchors, self._intermediates, self._now())
        except CertificateRefused as error:
            return Refusal(error.code, error.reason)
        if not identity_matches(verified, certificate_holder(identity)):
            names = ", ".join(verified.identities[:4])
            return Refusal("identity-mismatch", f"the certificate {verified.serial} belongs to {names}")
        return Proof(method, identity, verified.device_id, certificate_serial=verified.serial)
