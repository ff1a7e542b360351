"""What an Access-Request says of the circumstances of a sign-in: all of it the word of the network access server."""

from __future__ import annotations

import re
import uuid
from ipaddress import ip_address

from aaa.interface import SignInContext
from aaa.radius.constants import Attribute, NasPortType
from aaa.radius.request import Request

_LONGEST_STATION = 64
_WITH_PORT = re.compile(r"\[?([0-9A-Fa-f:.]+)\]?\[\d{1,5}\]")
"""As strongSwan writes it: `198.51.100.2[4500]`."""
_NETWORKS: dict[int | None, str] = {
    NasPortType.VIRTUAL: "VPN (RADIUS)",
    NasPortType.ETHERNET: "Ethernet (RADIUS)",
    NasPortType.WIRELESS_802_11: "Wi-Fi (RADIUS)",
}


def sign_in_context(request: Request, client: str, random_16: bytes) -> SignInContext:
    """The circumstances.

    Args:
        request: the first of the conversation.
        client: the network access server, by its name in the settings and not by what it calls itself.
        random_16: 16 unpredictable bytes.
    """
    return SignInContext(
        sign_in_id=str(uuid.UUID(bytes=random_16, version=4)),
        gateway=client,
        remote_address=station(request.text(Attribute.CALLING_STATION_ID)),
        ike_identity=request.text(Attribute.USER_NAME),
        client=kind_of_network(request),
    )


def kind_of_network(request: Request) -> str:
    """For a person who reads the log or the list of sessions."""
    return _NETWORKS.get(request.number(Attribute.NAS_PORT_TYPE), "RADIUS")


def station(text: str) -> str:
    """A Calling-Station-Id as one key for all its spellings: an address without its port, or a MAC address in lower
    case; whatever it is instead, cut and printable. Empty where the client says nothing: then the failures of its
    users are counted by their names alone, for one of them must not shut out the others.
    """
    found = _WITH_PORT.fullmatch(text)
    candidate = found[1] if found else text
    try:
        return str(ip_address(candidate))
    except ValueError:
        shown = "".join(character if character.isprintable() else "?" for character in candidate.lower())
        return shown[:_LONGEST_STATION]
