"""The proofs in IKE_AUTH: what the peer's AUTH has to be, and what ours is.

By certificate and signature (RFC 7296 section 2.15, RFC 7427), by an EAP method's MSK (section 2.16), by a pre-shared
key; each with or without a post-quantum pre-shared key in the keys (RFC 8784).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.ike import authentication
from gateway.ike.config import SitePeer
from gateway.ike.constants import AuthMethod, CertEncoding, NotifyType, PayloadType
from gateway.ike.credential_choice import choose_credential
from gateway.ike.errors import AuthenticationFailed, PpkRefused, PskRefused, SignatureRefused
from gateway.ike.exchanges.auth_state import IkeAuth, Notifies
from gateway.ike.keymat import IkeKeys, mix_ppk
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.certificate import Certificate
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.payloads.ppk import find_ppk

if TYPE_CHECKING:
    from gateway.ike.sa import IkeSa

_NOBODYS_SECRET = b"no pre-shared key of anybody's"

OutPayload = tuple[PayloadType, bytes]


# --- The peer's ---------------------------------------------------------------------------------------------


def verify_signature(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies) -> None:
    """Is the peer the holder of its certificate, trusted or not? Raises SignatureRefused."""
    try:
        key = x509.load_der_x509_certificate(state.chain_der[0]).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise SignatureRefused("the client's certificate can't be read") from None
    auth = _apply_ppk(sa, state, auth, notifies)
    with _with_ppk_in_mind(state):
        authentication.verify_signature(auth, key, _peer_octets(sa, state), bool(sa.peer_hashes))


def verify_eap(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies) -> None:
    """EAP has succeeded: does the peer hold its MSK? Raises AuthenticationFailed."""
    auth = _apply_ppk(sa, state, auth, notifies)
    with _with_ppk_in_mind(state):
        authentication.verify_shared_key(auth, sa.suite.prf, state.msk, _peer_octets(sa, state))


def verify_site(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies, site: SitePeer | None) -> SitePeer:
    """Does the peer hold the site's secret? For an identity of nobody's the work is the same.

    Raises:
        AuthenticationFailed: no.
    """
    auth = _apply_ppk(sa, state, auth, notifies)
    secret = site.secret if site is not None else _NOBODYS_SECRET
    matches = authentication.matches_shared_key(auth, sa.suite.prf, secret, _peer_octets(sa, state))
    if site is None or not matches:
        raise PskRefused(f"{sa.peer_identity} is no site peer, or it has another pre-shared key")
    state.site_secret = secret
    return site


def verify_ticket(sa: IkeSa, state: IkeAuth, auth: Auth) -> None:
    """Does the peer have the SA that the ticket is of? Raises AuthenticationFailed."""
    authentication.verify_resumption(auth, sa.suite.prf, _keys(sa).pi, _peer_octets(sa, state))


def _apply_ppk(sa: IkeSa, state: IkeAuth, auth: Auth, notifies: Notifies) -> Auth:
    """Put the post-quantum pre-shared key, where one is agreed on, into the keys of the SA (RFC 8784 section 3).

    Returns:
        What to verify: the AUTH payload, or what NO_PPK_AUTH has for a gateway without the key.

    Raises:
        AuthenticationFailed: one side insists on a key that the other does not have or name.
    """
    if state.is_second:
        return auth
    name = notifies.data(NotifyType.PPK_IDENTITY) if sa.peer_takes_ppk else None
    ppk = find_ppk(name, sa.config.ppks) if name is not None else None
    if ppk is not None:
        sa.keys = mix_ppk(sa.suite, _keys(sa), ppk)
        state.ppk_used = True
        return auth
    if sa.config.ppk_required:
        raise PpkRefused("the client uses no post-quantum pre-shared key that the gateway has, and one is required")
    if name is None:
        return auth
    without = notifies.data(NotifyType.NO_PPK_AUTH)
    if not without:
        raise PpkRefused("the client insists on a post-quantum pre-shared key that the gateway does not have")
    return Auth(auth.method, without)


@contextmanager
def _with_ppk_in_mind(state: IkeAuth) -> Iterator[None]:
    """Say of a proof that fails what else may be wrong than the proof."""
    try:
        yield
    except AuthenticationFailed as error:
        if not state.ppk_used or state.is_second:
            raise
        raise type(error)(f"{error}; the post-quantum pre-shared key may be another than ours") from None


def _peer_octets(sa: IkeSa, state: IkeAuth) -> bytes:
    return authentication.signed_octets(
        sa.init_request, sa.nonce_r, sa.suite.prf, _keys(sa).pi, state.idi_body, _int_auth(sa)
    )


# --- Ours ---------------------------------------------------------------------------------------------------


def introduction(sa: IkeSa, state: IkeAuth) -> tuple[OutPayload, ...]:
    """IDr, CERT+, AUTH; of EAP alone just IDr. CERT is sent though nobody asked: Apple and Android need it so.

    Raises:
        AuthenticationFailed: the client can't verify what any key of ours can make.
    """
    if state.eap_only:
        return ((PayloadType.IDR, state.idr_body),)
    config, wish = sa.config, state.wish
    credential = choose_credential(config.credentials, wish, pss=config.rsa_pss)
    auth = authentication.sign(
        credential.private_key,
        _own_octets(sa, state),
        wish.hashes,
        wish.announcements_for(credential),
        pss=config.rsa_pss and not wish.client.startswith("Android"),
    )
    certificates = [Certificate(CertEncoding.X509_SIGNATURE, der) for der in credential.chain_der]
    if wish.ocsp and credential.ocsp_response_der:
        certificates.append(Certificate(CertEncoding.OCSP_CONTENT, credential.ocsp_response_der))
    return (
        (PayloadType.IDR, state.idr_body),
        *((PayloadType.CERT, certificate.to_bytes()) for certificate in certificates),
        (PayloadType.AUTH, auth.to_bytes()),
    )


def proof(sa: IkeSa, state: IkeAuth) -> tuple[OutPayload, ...]:
    """Our answer to a peer that has proved itself; raises as `introduction` does."""
    if sa.resumption.redeemed is not None:
        data = authentication.resumption_auth(sa.suite.prf, _keys(sa).pr, _own_octets(sa, state))
        auth = Auth(AuthMethod.SHARED_KEY_MIC, data)
        return ((PayloadType.IDR, state.idr_body), (PayloadType.AUTH, auth.to_bytes()))
    if state.msk:
        payloads: tuple[OutPayload, ...] = (_shared_key_auth(sa, state, state.msk),)
    elif state.site_secret:
        payloads = ((PayloadType.IDR, state.idr_body), _shared_key_auth(sa, state, state.site_secret))
    else:
        payloads = introduction(sa, state)
    if state.ppk_used and not state.is_second:
        payloads = (*payloads, notify_payload(NotifyType.PPK_IDENTITY))
    return payloads


def _shared_key_auth(sa: IkeSa, state: IkeAuth, secret: bytes) -> OutPayload:
    data = authentication.shared_key_auth(sa.suite.prf, secret, _own_octets(sa, state))
    return PayloadType.AUTH, Auth(AuthMethod.SHARED_KEY_MIC, data).to_bytes()


def _own_octets(sa: IkeSa, state: IkeAuth) -> bytes:
    return authentication.signed_octets(
        sa.init_response, sa.nonce_i, sa.suite.prf, _keys(sa).pr, state.idr_body, _int_auth(sa)
    )


def _keys(sa: IkeSa) -> IkeKeys:
    if sa.keys is None:
        raise AuthenticationFailed("no keys")
    return sa.keys


def _int_auth(sa: IkeSa) -> bytes:
    return sa.intermediate.int_auth if sa.intermediate is not None else b""
