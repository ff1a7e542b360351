"""The calculations of MS-CHAP-V2 (RFC 2759 section 8) and of the keys that come of it (RFC 3079 section 3)."""

from __future__ import annotations

import hashlib

from aaa.eap.des import des_encrypt
from aaa.eap.identity import without_domain
from aaa.eap.md4 import md4
from aaa.eap.method import MSK_BYTES

NT_HASH_BYTES = 16

_AUTHENTICATOR_MAGIC_1 = b"Magic server to client signing constant"
_AUTHENTICATOR_MAGIC_2 = b"Pad to make it do more than one iteration"
_MASTER_MAGIC = b"This is the MPPE Master Key"
_CLIENT_SENDS_MAGIC = b"On the client side, this is the send key; on the server side, it is the receive key."
_SERVER_SENDS_MAGIC = b"On the client side, this is the receive key; on the server side, it is the send key."
_PAD_1 = bytes(40)
_PAD_2 = b"\xf2" * 40
_CLIENT_SENDS_TAIL = _PAD_1 + _CLIENT_SENDS_MAGIC + _PAD_2
_SERVER_SENDS_TAIL = _PAD_1 + _SERVER_SENDS_MAGIC + _PAD_2
_KEY_BYTES = 16
_MSK_TAIL = bytes(MSK_BYTES - 2 * _KEY_BYTES)


def nt_password_hash(password: str) -> bytes:
    """NtPasswordHash (RFC 2759 section 8.3): all that the server has to keep of a password, and as secret as it."""
    return md4(password.encode("utf-16-le"))


def challenge_hash(peer_challenge: bytes, authenticator_challenge: bytes, user_name: bytes) -> bytes:
    """ChallengeHash (section 8.2), 8 bytes; a `DOMAIN\\` before the user name is left out."""
    return hashlib.sha1(peer_challenge + authenticator_challenge + without_domain(user_name)).digest()[:8]  # noqa: S324


def nt_response(nt_hash: bytes, challenge: bytes) -> bytes:
    """ChallengeResponse (section 8.5): the 24 bytes by which the client proves the password.

    Args:
        nt_hash: 16 bytes, of `nt_password_hash`.
        challenge: 8 bytes, of `challenge_hash`.
    """
    return (
        des_encrypt(nt_hash[:7], challenge)
        + des_encrypt(nt_hash[7:14], challenge)
        + des_encrypt(nt_hash[14:] + bytes(5), challenge)
    )


def authenticator_response(nt_hash_hash: bytes, response: bytes, challenge: bytes) -> bytes:
    """GenerateAuthenticatorResponse (section 8.7): the server's proof, `S=` and 40 upper-case hexadecimal digits.

    Args:
        nt_hash_hash: MD4 of the NT hash.
        response: the 24 bytes of the NT response.
        challenge: 8 bytes, of `challenge_hash`.
    """
    digest = hashlib.sha1(nt_hash_hash + response + _AUTHENTICATOR_MAGIC_1).digest()  # noqa: S324
    proof = hashlib.sha1(digest + challenge + _AUTHENTICATOR_MAGIC_2)  # noqa: S324
    return b"S=" + proof.hexdigest().upper().encode()


def master_key(nt_hash_hash: bytes, response: bytes) -> bytes:
    """GetMasterKey (RFC 3079 section 3.4), 16 bytes."""
    return hashlib.sha1(nt_hash_hash + response + _MASTER_MAGIC).digest()[:_KEY_BYTES]  # noqa: S324


def session_key(nt_hash_hash: bytes, response: bytes) -> bytes:
    """The MSK, 64 bytes: what the server receives under, what it sends under (RFC 3079 section 3.4), zeros."""
    master = master_key(nt_hash_hash, response)
    receive = hashlib.sha1(master + _CLIENT_SENDS_TAIL).digest()[:_KEY_BYTES]  # noqa: S324
    send = hashlib.sha1(master + _SERVER_SENDS_TAIL).digest()[:_KEY_BYTES]  # noqa: S324
    return receive + send + _MSK_TAIL
