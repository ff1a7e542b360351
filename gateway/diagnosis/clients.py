"""What to do about it on the client, for each family of stock clients: where the switch is that it really has."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from gateway.ike.constants import TransformType
from gateway.ike.policy import ProposalPolicy

WINDOWS_SUITE = (
    "Set-VpnConnectionIPsecConfiguration -ConnectionName Ostiary -EncryptionMethod GCMAES256 "
    "-IntegrityCheckMethod SHA384 -DHGroup ECP384 -CipherTransformConstants GCMAES256 "
    "-AuthenticationTransformConstants GCMAES256 -PfsGroup None -Force"
)
"""One suite that every policy but `cnsa2` allows, as one line of PowerShell."""


class Family(Enum):
    """Clients that are set up in the same way."""

    WINDOWS = "Windows"
    APPLE = "Apple"
    ANDROID = "Android"
    STRONGSWAN_APP = "strongSwan for Android"
    STRONGSWAN = "strongSwan"
    LIBRESWAN = "libreswan"
    UNKNOWN = ""

    @classmethod
    def of(cls, client: str) -> Family:
        """The family of what a client looks like (`gateway.ike.fingerprint`)."""
        if client.startswith(("iOS", "macOS")):
            return cls.APPLE
        return next(family for family in cls if client.startswith(family.value))


def proposal_advice(client: str, policy: ProposalPolicy, lacking: Sequence[TransformType]) -> tuple[str, ...]:
    """How to have it offer what is allowed."""
    if policy.hybrid_only and TransformType.ADDKE1 in lacking:
        return (_ML_KEM[Family.of(client)], "Or choose another policy for all clients: gateway.proposal_policy.")
    advice = list(_PROPOSALS[Family.of(client)])
    if client == "Android 11":
        advice = ["Update the phone to Android 12 or newer, or use the strongSwan app on it."]
    may_be_allowed = client == "Android 11" or (Family.of(client) is Family.WINDOWS and _only_esp_sha1(lacking))
    if may_be_allowed and policy.name == "modern":
        advice.append(
            'Or allow it for all clients with gateway.proposal_policy = "compatible", whose weaknesses the gateway '
            "names when it starts."
        )
    return tuple(advice)


def _only_esp_sha1(lacking: Sequence[TransformType]) -> bool:
    return tuple(lacking) == (TransformType.INTEG,)


_PROPOSALS: dict[Family, tuple[str, ...]] = {
    Family.WINDOWS: (
        "Windows has to be told to offer strong algorithms (it shows error 13868). On the client, in PowerShell, "
        "with "
        f"the name that its VPN connection has: {WINDOWS_SUITE}",
        "Or run the script there that `ostiary device profile NAME` prints, which also adds the routes.",
    ),
    Family.APPLE: (
        "Install the profile that `ostiary device profile NAME --for apple` makes.",
        "In a profile of your own, under IKESecurityAssociationParameters and ChildSecurityAssociationParameters: "
        "EncryptionAlgorithm AES-256-GCM, IntegrityAlgorithm SHA2-384, DiffieHellmanGroup 20.",
    ),
    Family.ANDROID: (
        "Update the phone: Android 12 and newer offer what is allowed.",
        "Or use the strongSwan app on it.",
    ),
    Family.STRONGSWAN_APP: (
        "In the app's profile, under advanced settings, clear IKEv2 Algorithms and IPsec/ESP Algorithms.",
    ),
    Family.STRONGSWAN: (
        "In swanctl.conf: proposals = aes256gcm16-prfsha384-ecp384 and, in the child, esp_proposals = "
        "aes256gcm16; then swanctl --load-conns.",
    ),
    Family.LIBRESWAN: ("In ipsec.conf, leave out ike= and esp=: libreswan's own choice is accepted.",),
    Family.UNKNOWN: ("Have the client offer one algorithm of each kind out of those that are allowed.",),
}

_NO_ML_KEM = "has no ML-KEM for IKEv2, which the policy demands"
_ML_KEM: dict[Family, str] = {
    Family.WINDOWS: f"Windows {_NO_ML_KEM}.",
    Family.APPLE: "iOS and macOS 26 or newer can, by a configuration profile: PostQuantumKeyExchangeMethods with 37 "
    "(ML-KEM-1024).",
    Family.ANDROID: f"Android {_NO_ML_KEM}; the strongSwan app (2.6.1 or newer) has it.",
    Family.STRONGSWAN_APP: "In the app (2.6.1 or newer), IKEv2 Algorithms: "
    "aes256gcm16-prfsha384-ecp384-ke1_mlkem1024.",
    Family.STRONGSWAN: "With strongSwan 6.0 or newer: proposals = aes256gcm16-prfsha384-ecp384-ke1_mlkem1024.",
    Family.LIBRESWAN: f"libreswan {_NO_ML_KEM}, in the versions that distributions ship.",
    Family.UNKNOWN: "Have the client offer ML-KEM-1024 as an additional key exchange (RFC 9370).",
}


def trust_advice(client: str, name: str, *, rsa: bool) -> tuple[str, ...]:
    """How to have it accept the gateway's certificate.

    Args:
        client: what it looks like.
        name: that the certificate carries and that clients are to be set up with.
        rsa: the gateway's key is RSA.
    """
    advice = [text.format(name=name) for text in _TRUST[Family.of(client)]]
    if not rsa and client.startswith(("Android", "iOS")):
        advice.insert(0, 'Set pki.gateway_key_type = "rsa-3072": this client verifies no other kind of key.')
    return tuple(advice)


_ROOT = "The root certificate is printed by `ostiary ca trust`."
_TRUST: dict[Family, tuple[str, ...]] = {
    Family.WINDOWS: (
        "Import the root certificate into the machine's store (certlm.msc, Trusted Root Certification "
        "Authorities); the user's store is not looked at. Windows shows error 13801.",
        "The server name of the VPN connection has to be {name}.",
        _ROOT,
    ),
    Family.APPLE: (
        "Install the root certificate and trust it: Settings, General, About, Certificate Trust Settings on "
        "iOS; Always Trust in the keychain on macOS.",
        "Server and remote ID have to be {name}: it is looked for in the certificate's alternative names.",
        _ROOT,
    ),
    Family.ANDROID: (
        "Install the root certificate as VPN & app user certificate, and choose it in the VPN's settings.",
        "The server address in the VPN's settings has to be {name}: Android compares it with the gateway's identity.",
        _ROOT,
    ),
    Family.STRONGSWAN_APP: (
        "Import the root certificate in the app, under CA certificates.",
        "The server has to be {name}, and the server identity empty or the same.",
        _ROOT,
    ),
    Family.STRONGSWAN: (
        "Put the root certificate into /etc/swanctl/x509ca and run swanctl --load-creds (charon-cmd: --cert FILE).",
        "In swanctl.conf, the id in the section remote has to be {name}.",
        _ROOT,
    ),
    Family.LIBRESWAN: (
        "Import the root certificate: certutil -A -d sql:/var/lib/ipsec/nss -n ostiary -t CT,, -i ostiary-root.pem",
        "In ipsec.conf: rightid=@{name}.",
        _ROOT,
    ),
    Family.UNKNOWN: ("Have the client trust the root certificate.", "Its server name has to be {name}.", _ROOT),
}


def credential_advice(client: str) -> tuple[str, ...]:
    """What to mind where a password or an access code is typed."""
    return _CREDENTIAL.get(Family.of(client), ())


_CREDENTIAL: dict[Family, tuple[str, ...]] = {
    Family.WINDOWS: (
        "Windows remembers what was typed, and shows error 691: Settings, VPN, the connection, Advanced "
        "options, Clear sign-in info.",
    ),
    Family.APPLE: ("Apple devices remember what was typed: type it anew in the VPN's settings.",),
    Family.ANDROID: ("Android remembers what was typed: type it anew in the VPN's settings.",),
    Family.STRONGSWAN: ("In swanctl.conf, secret in quotation marks, and swanctl --load-creds after a change.",),
}


def fragment_advice(client: str) -> tuple[str, ...]:
    """How to have it send shorter pieces."""
    return _FRAGMENT.get(Family.of(client), ())


_FRAGMENT: dict[Family, tuple[str, ...]] = {
    Family.STRONGSWAN: ("On the client, in strongswan.conf: charon.fragment_size = 576.",),
    Family.WINDOWS: (
        "Windows sends fragments of 580 bytes: a path that drops those drops UDP by count, not by size.",
    ),
}
