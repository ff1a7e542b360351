"""Numbers of RADIUS (RFC 2865, 2866, 2869, 3579, 5176 and IANA's "RADIUS Types")."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Packet codes."""

    ACCESS_REQUEST = 1
    ACCESS_ACCEPT = 2
    ACCESS_REJECT = 3
    ACCOUNTING_REQUEST = 4
    ACCOUNTING_RESPONSE = 5
    ACCESS_CHALLENGE = 11
    STATUS_SERVER = 12
    DISCONNECT_REQUEST = 40
    DISCONNECT_ACK = 41
    DISCONNECT_NAK = 42
    COA_REQUEST = 43
    COA_ACK = 44
    COA_NAK = 45


class Attribute(IntEnum):
    """The attributes that Ostiary reads or writes."""

    USER_NAME = 1
    USER_PASSWORD = 2
    CHAP_PASSWORD = 3
    NAS_IP_ADDRESS = 4
    SERVICE_TYPE = 6
    FRAMED_IP_ADDRESS = 8
    FILTER_ID = 11
    FRAMED_MTU = 12
    REPLY_MESSAGE = 18
    STATE = 24
    CLASS = 25
    SESSION_TIMEOUT = 27
    CALLING_STATION_ID = 31
    NAS_IDENTIFIER = 32
    PROXY_STATE = 33
    ACCT_STATUS_TYPE = 40
    ACCT_DELAY_TIME = 41
    ACCT_INPUT_OCTETS = 42
    ACCT_OUTPUT_OCTETS = 43
    ACCT_SESSION_ID = 44
    ACCT_INPUT_PACKETS = 47
    ACCT_OUTPUT_PACKETS = 48
    ACCT_TERMINATE_CAUSE = 49
    ACCT_INPUT_GIGAWORDS = 52
    ACCT_OUTPUT_GIGAWORDS = 53
    EVENT_TIMESTAMP = 55
    NAS_PORT_TYPE = 61
    EAP_MESSAGE = 79
    MESSAGE_AUTHENTICATOR = 80
    ACCT_INTERIM_INTERVAL = 85
    FRAMED_POOL = 88
    CHARGEABLE_USER_IDENTITY = 89
    NAS_FILTER_RULE = 92
    NAS_IPV6_ADDRESS = 95
    FRAMED_IPV6_PREFIX = 97
    ERROR_CAUSE = 101
    FRAMED_IPV6_ADDRESS = 168


MICROSOFT = 311
"""Vendor of the attributes that carry the keys (RFC 2548)."""


class MicrosoftAttribute(IntEnum):
    """RFC 2548 section 2.4."""

    MPPE_SEND_KEY = 16
    MPPE_RECV_KEY = 17


class AcctStatus(IntEnum):
    """Acct-Status-Type (RFC 2866 section 5.1)."""

    START = 1
    STOP = 2
    INTERIM_UPDATE = 3
    ACCOUNTING_ON = 7
    ACCOUNTING_OFF = 8


class NasPortType(IntEnum):
    """Those by which a person knows what kind of network it was (RFC 2865 section 5.41, IANA)."""

    VIRTUAL = 5
    ETHERNET = 15
    WIRELESS_802_11 = 19
