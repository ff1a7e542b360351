"""IKEv2 payloads: one file each, slotted classes with `parse(body)` and `to_bytes()` (body without header)."""

from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.certificate import Certificate, CertificateRequest
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute
from gateway.ike.payloads.delete import Delete
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.ke import KeyExchange
from gateway.ike.payloads.notify import Notify
from gateway.ike.payloads.security_association import Proposal, Transform, parse_proposals, proposals_to_bytes

__all__ = [
    "Auth",
    "Certificate",
    "CertificateRequest",
    "Configuration",
    "ConfigurationAttribute",
    "Delete",
    "Identification",
    "KeyExchange",
    "Notify",
    "Proposal",
    "Transform",
    "parse_proposals",
    "proposals_to_bytes",
]
