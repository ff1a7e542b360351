"""What handshakes fail of, and what is to be said and done about each code.

A code says what was decided; the cause says which rule decided it. Codes whose story depends on what happened before
(a timeout, a client that gave up) have their cause found out by `situation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """The rule that stopped a handshake, or what the time of a slow one went to."""

    PROPOSAL = "proposal"
    FRAGMENT = "fragment"
    """A fragment of an IKE message was lost."""
    NETWORK = "network"
    """Packets did not come through: firewall, NAT, UDP 4500."""
    GATEWAY_CERTIFICATE = "gateway-certificate"
    """The client does not accept ours."""
    CLIENT_CERTIFICATE = "client-certificate"
    IDENTITY = "identity"
    """One side is not who the other side expects."""
    EAP = "eap"
    CREDENTIAL = "credential"
    """User, access code, key."""
    ACCESS = "access"
    """Rules, and the states of user and device."""
    ADDRESS_POOL = "address-pool"
    TRAFFIC_SELECTORS = "traffic-selectors"
    RESUMPTION = "resumption"
    LIMIT = "limit"
    COOKIE = "cookie"
    CLIENT = "client"
    """It fell silent, or left, of its own accord."""
    BACKEND = "backend"
    """The database, the directory."""
    GATEWAY = "gateway"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a code by itself."""

    cause: Cause
    advice: tuple[str, ...]


_ACCESS_CODE = "Make a new access code with `ostiary device code NAME`, and have it typed with its hyphens."
_OUR_CERTIFICATE = "Give the device a certificate with `ostiary device certificate NAME`, and remove the old one."
_DIRECTORY = "Run `ostiary directory check` on the gateway: it says of each server what is wrong."
_DIRECTORY_USER = "Look at the account with `ostiary directory show NAME`, and change it in the directory."
_NEW_PASSWORD = "Have the user set a new password on a computer of the company; then use that one."  # noqa: S105
_STOCK = "If it is a stock client, report this with the gateway's log of the same time."
_LOG = "Look into the gateway's log at this time."

CATALOGUE: dict[str, Entry] = {
    # Found out further by `situation` and `diagnose`.
    "no-proposal-chosen": Entry(Cause.PROPOSAL, ()),
    "handshake-timeout": Entry(Cause.CLIENT, ()),
    "client-gave-up": Entry(Cause.CLIENT, ()),
    "client-refused-server": Entry(Cause.GATEWAY_CERTIFICATE, ()),
    # What the client is set up with.
    "no-common-method": Entry(
        Cause.EAP,
        (
            "Choose EAP-MSCHAPv2 (user name and password) or EAP-TLS (certificate) in the client.",
            "What the gateway offers is the setting aaa.eap_methods.",
        ),
    ),
    "authentication-failed": Entry(
        Cause.CREDENTIAL, ("The reason says what the client wanted; choose EAP or a certificate in it.",)
    ),
    "signature-refused": Entry(
        Cause.CLIENT_CERTIFICATE, ("Check that the client's key belongs to its certificate.",)
    ),
    "psk-refused": Entry(
        Cause.CREDENTIAL,
        ("Choose EAP or a certificate in the client: pre-shared keys are for other sites' gateways only.",),
    ),
    "ppk-refused": Entry(
        Cause.CREDENTIAL, ("Give client and gateway the same post-quantum pre-shared key under the same name.",)
    ),
    "failed-cp-required": Entry(
        Cause.ADDRESS_POOL,
        (
            "Have the client ask for a virtual address of a family that its pool has (strongSwan: vips = "
            "0.0.0.0, ::).",
        ),
    ),
    "ts-unacceptable": Entry(
        Cause.TRAFFIC_SELECTORS,
        (
            "Have the client ask for everything (0.0.0.0/0, ::/0): the gateway narrows it to what the rule allows.",
            "Or add the network to the rule's `networks`.",
        ),
    ),
    "unexpected-nat-detected": Entry(
        Cause.NETWORK, ("Let the client take NATs (its setting may be called NO_NATS_ALLOWED), or take out the NAT.",)
    ),
    "tls-version": Entry(Cause.EAP, ("Update the client: EAP-TLS takes TLS 1.2 and 1.3.",)),
    "no-common-cipher": Entry(
        Cause.EAP, ("Update the client: EAP-TLS takes cipher suites with forward secrecy only.",)
    ),
    # Who signs in.
    "unknown-user": Entry(
        Cause.CREDENTIAL,
        ("Look for the name in `ostiary user list`; it is typed without domain, or as DOMAIN\\name or name@domain.",),
    ),
    "no-access-code": Entry(Cause.CREDENTIAL, (_ACCESS_CODE,)),
    "wrong-credential": Entry(Cause.CREDENTIAL, (_ACCESS_CODE,)),
    "radius-refused": Entry(
        Cause.CREDENTIAL, ("See the log of the company's RADIUS server; the method has to be one that makes keys.",)
    ),
    "expired-access-code": Entry(Cause.CREDENTIAL, (_ACCESS_CODE,)),
    "disabled-user": Entry(Cause.ACCESS, ("If that was a mistake: `ostiary user enable NAME`.",)),
    "revoked-device": Entry(
        Cause.ACCESS,
        ("A revocation is final: enrol the machine anew, under another name, once it is trusted again.",),
    ),
    "quarantined-device": Entry(Cause.ACCESS, ("Do what the reason says; the device may then connect again.",)),
    "unknown-device": Entry(Cause.ACCESS, ("Enrol the device with `ostiary device add USER NAME`.",)),
    "unknown-device-state": Entry(Cause.ACCESS, ("Look at it with `ostiary device show NAME`.",)),
    "wrong-owner": Entry(Cause.ACCESS, ("Look at who owns it with `ostiary device show NAME`.",)),
    "no-rule": Entry(
        Cause.ACCESS, ("Compare the rules (aaa.rules) with the user's groups, the method and the device's state.",)
    ),
    "second-factor-needed": Entry(
        Cause.EAP, ("Choose PEAP or EAP-TTLS with EAP-GTC inside in the client: it can ask the user for more.",)
    ),
    "second-factor-missing": Entry(
        Cause.ACCESS,
        ("Set up the client to sign in twice: with the device's certificate, then as its user with EAP (RFC 4739).",),
    ),
    "denied-by-rule": Entry(Cause.ACCESS, ("The rule that is named decided: change it if that is not meant.",)),
    "decision-changed": Entry(Cause.ACCESS, ("Connect again.",)),
    "too-many-failures": Entry(
        Cause.LIMIT,
        (
            "Wait a minute, and find out by the failures before it what is wrong.",
            "Where many people share the address: aaa.sign_in_failures_per_minute.",
        ),
    ),
    # What the company's directory says of a person.
    "expired-user": Entry(Cause.ACCESS, (_DIRECTORY_USER,)),
    "locked-user": Entry(
        Cause.ACCESS,
        (
            "Unlock the account in the directory, or wait until it does so itself.",
            "Look for an old password on another device of the user's: it locks the account again.",
        ),
    ),
    "sign-in-restricted": Entry(Cause.ACCESS, (_DIRECTORY_USER,)),
    "password-must-change": Entry(Cause.CREDENTIAL, (_NEW_PASSWORD,)),
    "password-expired": Entry(Cause.CREDENTIAL, (_NEW_PASSWORD,)),
    "ambiguous-user": Entry(
        Cause.CREDENTIAL, ("Let user_filter and login_attributes of aaa.directories find one person by this name.",)
    ),
    "no-directory-user": Entry(Cause.CREDENTIAL, (_ACCESS_CODE,)),
    "other-person": Entry(
        Cause.CREDENTIAL,
        ("Compare `ostiary user show NAME` with `ostiary directory show NAME`: one of them needs another name.",),
    ),
    "unusable-name": Entry(
        Cause.CREDENTIAL, ("Set name_attribute of aaa.directories to one with letters, digits, dots and hyphens.",)
    ),
    "directory-unavailable": Entry(Cause.BACKEND, (_DIRECTORY,)),
    "directory-refused": Entry(Cause.BACKEND, (_DIRECTORY,)),
    "directory-error": Entry(Cause.BACKEND, (_DIRECTORY,)),
    "directory-partial": Entry(Cause.BACKEND, (_DIRECTORY,)),
    "directory-referral": Entry(Cause.BACKEND, (_DIRECTORY,)),
    "directory-busy": Entry(Cause.BACKEND, ("See why the directory's servers are slow; `ostiary directory check`.",)),
    # Before anybody says who he is; no audit event.
    "too-many-handshakes": Entry(
        Cause.LIMIT,
        (
            "Where many people share the address, raise gateway.half_open_limit_per_address and "
            "gateway.init_rate_per_address.",
            "Else it is a client that tries in a loop, or an attack, and the limit does what it is for.",
        ),
    ),
    "cookie-refused": Entry(
        Cause.COOKIE,
        (
            "Nothing, where it happens once: the client gets a new cookie and comes again.",
            "Where it goes on, look for a NAT that gives each packet another address.",
        ),
    ),
    "ticket-refused": Entry(
        Cause.RESUMPTION, ("Nothing: the client goes on with a whole handshake, and gets a new ticket.",)
    ),
    # The client's certificate.
    "no-client-certificate": Entry(Cause.CLIENT_CERTIFICATE, ("Import the device's certificate with its key.",)),
    "expired-certificate": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "not-yet-valid-certificate": Entry(
        Cause.CLIENT_CERTIFICATE, ("Set the clocks: of the gateway, and of whoever issued it (`ostiary check`).",)
    ),
    "revoked-certificate": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "revocation-unknown": Entry(
        Cause.CLIENT_CERTIFICATE,
        ("Let the gateway reach the OCSP responder or the CRL of that authority (pki.trusted_authorities).",),
    ),
    "unknown-certificate": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "untrusted-certificate": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "wrong-usage": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "weak-key": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "malformed-certificate": Entry(Cause.CLIENT_CERTIFICATE, (_OUR_CERTIFICATE,)),
    "identity-mismatch": Entry(
        Cause.IDENTITY,
        ("Let local ID and EAP identity be a name in the certificate: NAME.devices.ostiary.internal.",),
    ),
    # The gateway.
    "internal-address-failure": Entry(
        Cause.ADDRESS_POOL,
        (
            "Give the pool a larger network (gateway.pools), or send some people to another pool by a rule.",
            "`ostiary session list` shows who has its addresses.",
        ),
    ),
    "temporary-failure": Entry(Cause.GATEWAY, (_LOG,)),
    "backend-unavailable": Entry(
        Cause.BACKEND, ("Bring the database back (`ostiary check`); sign-ins then work again by themselves.",)
    ),
    "radius-unavailable": Entry(
        Cause.BACKEND,
        (
            "See that a server of radius.upstream runs, can be reached from here, and has the same secret.",
            "It has to put Message-Authenticator into its answers.",
        ),
    ),
    "internal-error": Entry(Cause.GATEWAY, (_LOG,)),
    "no-msk": Entry(Cause.GATEWAY, (_LOG,)),
    "gateway-unproved": Entry(Cause.GATEWAY, (_LOG,)),
    "protocol-error": Entry(Cause.PROTOCOL, (_STOCK,)),
    "limit-exceeded": Entry(Cause.PROTOCOL, (_STOCK,)),
    "invalid-syntax": Entry(Cause.PROTOCOL, (_STOCK,)),
    "unsupported-critical-payload": Entry(Cause.PROTOCOL, (_STOCK,)),
}
"""By the code of the audit event; `tests` see to it that none is missing."""

UNAUDITED = frozenset({"too-many-handshakes", "cookie-refused", "ticket-refused"})
"""Codes that no audit event has: whoever causes them has not said who he is."""
UNKNOWN = Entry(Cause.PROTOCOL, (_LOG,))
