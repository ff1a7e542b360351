"""The answer to a CFG_REQUEST (RFC 7296 sections 2.19 and 3.15, RFC 8598).

An attribute of a request is a wish, and nothing is sent that was not asked for. A value in it is a suggestion:
Windows names the IPv6 address that it had the last time while it asks for any IPv4 address. Which addresses there
are was decided before; here they are only written down. What is unknown, or asked for twice, changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from gateway.ike.child import Assignment
from gateway.ike.constants import CfgAttribute, CfgType
from gateway.ike.payloads.configuration import Configuration, ConfigurationAttribute

IPV6_HOST_PREFIX = 128
IPV4_HOST_NETMASK = b"\xff\xff\xff\xff"
"""A client is alone on its link: INTERNAL_IP4_NETMASK is a link boundary (section 3.15.1), no route to the pool."""


def configuration_reply(request: Configuration, assignment: Assignment) -> Configuration:
    """What the client asked for and there is, in the order of the table below.

    Args:
        request: a CFG_REQUEST.
        assignment: what the client gets; an address is in it only where the client asked for one.
    """
    wanted = {attribute.type for attribute in request.attributes}
    attributes = [
        ConfigurationAttribute(kind, value)
        for kind, values in _ANSWERS.items()
        if kind in wanted
        for value in values(assignment)
    ]
    return Configuration(CfgType.REPLY, tuple(attributes))


def _ipv4_address(assignment: Assignment) -> Iterator[bytes]:
    if assignment.virtual_ipv4 is not None:
        yield assignment.virtual_ipv4.packed


def _ipv4_netmask(assignment: Assignment) -> Iterator[bytes]:
    if assignment.virtual_ipv4 is not None:
        yield IPV4_HOST_NETMASK


def _ipv6_address(assignment: Assignment) -> Iterator[bytes]:
    if assignment.virtual_ipv6 is not None:
        yield assignment.virtual_ipv6.packed + bytes((IPV6_HOST_PREFIX,))


def _ipv4_dns(assignment: Assignment) -> Iterator[bytes]:
    yield from (server.packed for server in assignment.dns if server.version == 4)


def _ipv6_dns(assignment: Assignment) -> Iterator[bytes]:
    yield from (server.packed for server in assignment.dns if server.version == 6)


def _dns_domains(assignment: Assignment) -> Iterator[bytes]:
    """Presentation format, A-labels, no final dot, no NUL (RFC 8598 section 4.1); never without a server for them."""
    if assignment.dns:
        yield from (domain.encode("ascii") for domain in assignment.dns_domains)


def _ipv4_subnets(assignment: Assignment) -> Iterator[bytes]:
    for network in assignment.networks:
        if network.version == 4 and assignment.virtual_ipv4 is not None:
            yield network.network_address.packed + network.netmask.packed


def _ipv6_subnets(assignment: Assignment) -> Iterator[bytes]:
    for network in assignment.networks:
        if network.version == 6 and assignment.virtual_ipv6 is not None:
            yield network.network_address.packed + bytes((network.prefixlen,))


def _supported_attributes(_: Assignment) -> Iterator[bytes]:
    yield struct.pack(f"!{len(_ANSWERS)}H", *_ANSWERS)


_ANSWERS: dict[CfgAttribute, Callable[[Assignment], Iterator[bytes]]] = {
    CfgAttribute.INTERNAL_IP4_ADDRESS: _ipv4_address,
    CfgAttribute.INTERNAL_IP4_NETMASK: _ipv4_netmask,
    CfgAttribute.INTERNAL_IP6_ADDRESS: _ipv6_address,
    CfgAttribute.INTERNAL_IP4_DNS: _ipv4_dns,
    CfgAttribute.INTERNAL_IP6_DNS: _ipv6_dns,
    CfgAttribute.INTERNAL_DNS_DOMAIN: _dns_domains,
    CfgAttribute.INTERNAL_IP4_SUBNET: _ipv4_subnets,
    CfgAttribute.INTERNAL_IP6_SUBNET: _ipv6_subnets,
    CfgAttribute.SUPPORTED_ATTRIBUTES: _supported_attributes,
}
"""Not in it, on purpose: APPLICATION_VERSION, which would tell anyone with an account what runs here; NBNS and DHCP
servers, and Microsoft's INTERNAL_IP4_SERVER and INTERNAL_IP6_SERVER, which nobody needs to be connected.
"""
