"""iOS, iPadOS and macOS: a configuration profile with the root certificate and the connection.

The suite is one that the policies `modern` and `compatible` accept; without it, releases differ in what they offer.
No password is in it: the device asks for the access code whenever it connects.
"""

from __future__ import annotations

import plistlib
import uuid
from typing import Any

from aaa.enrolment.target import CONNECTION, Target

_SUITE = {"EncryptionAlgorithm": "AES-256-GCM", "IntegrityAlgorithm": "SHA2-384", "DiffieHellmanGroup": 20}
IKE_LIFETIME_MINUTES, CHILD_LIFETIME_MINUTES = 480, 60
"""Well below the gateway's own, so that it is the device that rekeys."""


def mobileconfig(target: Target, root_der: bytes) -> bytes:
    """The profile as XML; unsigned, so the device says that it can't tell whose it is.

    The same input makes the same identifiers, so that a newer profile replaces the older one.
    """
    vpn = _payload(
        "com.apple.vpn.managed",
        target,
        UserDefinedName=CONNECTION,
        VPNType="IKEv2",
        IKEv2={
            "RemoteAddress": target.identity,
            "RemoteIdentifier": target.identity,
            "LocalIdentifier": target.user_name,
            # With a certificate of the gateway, and EAP without one of the device's: that is EAP-MSCHAPv2.
            "AuthenticationMethod": "Certificate",
            "ExtendedAuthEnabled": 1,
            "AuthName": target.user_name,
            "IKESecurityAssociationParameters": {**_SUITE, "LifeTimeInMinutes": IKE_LIFETIME_MINUTES},
            "ChildSecurityAssociationParameters": {**_SUITE, "LifeTimeInMinutes": CHILD_LIFETIME_MINUTES},
            "EnablePFS": 1,
            "DeadPeerDetectionRate": "Medium",
            "DisableMOBIKE": 0,
            "UseConfigurationAttributeInternalIPSubnet": 0,
        },
    )
    root = _payload(
        "com.apple.security.root",
        target,
        PayloadCertificateFileName="ostiary-root.crt",
        PayloadContent=root_der,
    )
    profile = {
        **_payload("Configuration", target),
        "PayloadDisplayName": f"VPN {target.identity}",
        "PayloadDescription": f"The connection {CONNECTION} for {target.user_name}, and its root certificate.",
        "PayloadContent": [root, vpn],
    }
    return plistlib.dumps(profile)


def _payload(kind: str, target: Target, **content: Any) -> dict[str, Any]:
    name = f"ostiary.{target.identity}.{target.user_name}.{kind}"
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": name,
        "PayloadUUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)).upper(),
        **content,
    }
