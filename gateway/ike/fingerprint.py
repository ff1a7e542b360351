"""What client a peer looks like: for the operator's eyes only, never a ground for a decision."""

from __future__ import annotations

from gateway.ike.constants import CfgAttribute, PayloadType
from gateway.ike.message import Payloads
from gateway.ike.payloads.configuration import Configuration
from gateway.ike.payloads.notify import Notify

_MICROSOFT_VENDOR_IDS = (
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461"),
    bytes.fromhex("fb1de3cdf341b7ea16b7e5be0855f120"),
    bytes.fromhex("01528bbbc00696121849ab9a1c5b2a51"),
)
_LIBRESWAN_VENDOR_ID = b"OE-Libreswan"
_REDIRECT_SUPPORTED = 16406


def from_ike_sa_init(payloads: Payloads, notifies: list[Notify]) -> str:
    """A guess from vendor ids and notifies; empty where there is no sign."""
    for body in payloads.all(PayloadType.VENDOR_ID):
        if body.startswith(_MICROSOFT_VENDOR_IDS):
            return "Windows"
        if body.startswith(_LIBRESWAN_VENDOR_ID):
            return "libreswan"
    # Of the common clients only strongSwan announces that it follows redirects by default.
    if any(notify.type == _REDIRECT_SUPPORTED for notify in notifies):
        return "strongSwan"
    return ""


def from_configuration(request: Configuration) -> str:
    """A guess from the attributes that a client asks for; empty where there is no sign."""
    if request.has(CfgAttribute.MS_INTERNAL_IP4_SERVER) or request.has(CfgAttribute.MS_INTERNAL_IP6_SERVER):
        return "Windows"
    if request.has(CfgAttribute.INTERNAL_IP4_NETMASK) and request.has(CfgAttribute.INTERNAL_IP6_ADDRESS):
        return "Apple"
    if request.has(CfgAttribute.APPLICATION_VERSION):
        return "Android"
    return ""
