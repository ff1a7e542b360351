"""How values are written for a person: times, amounts, names of actions."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from flask import Flask
from markupsafe import Markup

from core.clock import utc_now

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_JUST_NOW = timedelta(seconds=5)
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))

METHODS = {
    "eap-mschapv2": "EAP-MSCHAPv2",
    "eap-tls": "EAP-TLS",
    "eap-ttls": "EAP-TTLS",
    "eap-peap": "PEAP",
    "certificate": "Certificate",
    "certificate+eap-mschapv2": "Certificate, then EAP-MSCHAPv2",
    "certificate+eap-tls": "Certificate, then EAP-TLS",
    "certificate+eap-ttls": "Certificate, then EAP-TTLS",
    "certificate+eap-peap": "Certificate, then PEAP",
    "psk": "Pre-shared key",
}
ACTIONS = {
    "ca.create": "CA created",
    "ca.renew": "CA renewed",
    "certificate.issue": "Certificate issued",
    "certificate.revoke": "Certificate revoked",
    "console.confirm": "Second factor asked again",
    "console.sign-in": "Console sign-in",
    "console.sign-out": "Console sign-out",
    "device.add": "Device added",
    "device.disconnect": "Device disconnected",
    "device.issue-code": "Access code issued",
    "device.quarantine": "Device quarantined",
    "device.revoke": "Device revoked",
    "device.trust": "Device trusted",
    "directory.sync": "Directory synchronised",
    "gateway.forget": "Gateway forgotten",
    "gateway.start": "Gateway started",
    "gateway.stop": "Gateway stopped",
    "invitation.create": "Invitation made",
    "secrets.rotate": "Secrets re-encrypted",
    "session.disconnect": "Session disconnected",
    "session.refuse": "Session refused",
    "sign-in.accept": "Signed in",
    "sign-in.refuse": "Sign-in refused",
    "user.add": "User added",
    "user.disable": "User disabled",
    "user.set-groups": "User's groups changed",
    "user.enable": "User enabled",
    "user.enrol-totp": "Second factor enrolled",
    "user.set-password": "Password set",
    "user.set-role": "Role changed",
}
HANDSHAKE_CAUSES = {
    "access": "Access rules",
    "address-pool": "Address pool",
    "backend": "Database",
    "client": "Client",
    "client-certificate": "Client certificate",
    "cookie": "Cookie",
    "credential": "User or code",
    "eap": "EAP",
    "fragment": "Lost fragment",
    "gateway": "Gateway",
    "gateway-certificate": "Gateway certificate",
    "identity": "Identity",
    "limit": "Limit",
    "network": "Network, NAT",
    "proposal": "Algorithms",
    "protocol": "Protocol",
    "resumption": "Resumption",
    "traffic-selectors": "Traffic selectors",
}
"""As `gateway.diagnosis.causes` names them."""
DATA_PLANES = {"kernel": "Kernel ESP", "userspace": "Userspace ESP"}


def human_bytes(count: int) -> str:
    """`1.4 MB`: decimal units, two or three significant digits."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"


def duration(span: timedelta) -> str:
    """`3 h 12 min`: the two largest units that matter."""
    seconds = max(0.0, span.total_seconds())
    for index, (size, name) in enumerate(_SPANS):
        if seconds < size:
            continue
        first = f"{int(seconds // size)} {name}"
        if index + 1 == len(_SPANS):
            return first
        rest_size, rest_name = _SPANS[index + 1]
        rest = int(seconds % size // rest_size)
        return f"{first} {rest} {rest_name}" if rest and size > 60 else first
    return "0 s"


def exact(moment: datetime) -> str:
    """`2026-05-04 17:03:21 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def relative(moment: datetime, now: datetime) -> str:
    """`3 min ago`, `in 7 h`."""
    distance = moment - now
    if abs(distance) < _JUST_NOW:
        return "just now"
    seconds = abs(distance.total_seconds())
    size, name = next((item for item in _SPANS if seconds >= item[0]), _SPANS[-1])
    # What is to come is rounded up, so that eight hours from now do not read as seven.
    if distance > timedelta(0):
        return f"in {math.ceil(seconds / size)} {name}"
    return f"{int(seconds // size)} {name} ago"


def ago(moment: datetime | None) -> Markup:
    """A time element: relative to read, exact on hover and for machines."""
    if moment is None:
        return Markup("&ndash;")
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"), exact(moment), relative(moment, utc_now())
    )


def clock(moment: datetime) -> Markup:
    """A time element that shows the exact time, for the audit log."""
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), exact(moment), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def lately(moment: datetime) -> Markup:
    """A time element with the time of today, `17:03 UTC`, or the day before it, `4 May, 17:03 UTC`."""
    utc = moment.astimezone(UTC)
    day = "" if utc.date() == utc_now().date() else f"{utc.day} {utc:%b}, "
    return Markup('<time datetime="{}" title="{}">{}{}</time>').format(
        utc.isoformat(timespec="seconds"), exact(moment), day, utc.strftime("%H:%M UTC")
    )


def since(moment: datetime) -> Markup:
    """How long something has lasted, exact start on hover."""
    return Markup('<time datetime="{}" title="since {}">{}</time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"), exact(moment), duration(utc_now() - moment)
    )


def host(address: str) -> str:
    """`192.0.2.7:4500` or `[2001:db8::7]:4500` without the port."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    name = address.rpartition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return address
    return name


def action_words(action: str) -> str:
    """`device.revoke` as a person says it: `Device revoked`; an action that is not in the list, spelt out."""
    return ACTIONS.get(action) or action.replace(".", ": ").replace("-", " ").capitalize()


def shortened(text: str) -> str:
    """Long hexadecimal names (serial numbers, ids) to what tells them apart."""
    return f"{text[:12]}…" if len(text) >= 32 else text


def cause_words(cause: str) -> str:
    """`ADMIN_RESET` (RFC 2866) as words: `Admin reset`."""
    return cause.replace("_", " ").capitalize() or "Unknown cause"


def fact(value: object) -> str:
    """A value of an event's detail: lists with commas, tables as `name value`, nothing as a hyphen."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(fact(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact(item)}" for name, item in value.items())
    return str(value)


def milliseconds(value: float) -> str:
    """`12 ms`, `3.4 ms`, `1.20 s`."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def with_code(text: str) -> Markup:
    """Text in which `commands and settings` stand between backticks, with those as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return Markup("{}").format(text)
    code, plain = Markup("<code>{}</code>"), Markup("{}")
    marked = ((code if number % 2 else plain).format(part) for number, part in enumerate(parts))
    return Markup("").join(marked)


def install(app: Flask) -> None:
    """Make these the filters of the templates."""
    for function in (
        human_bytes,
        duration,
        exact,
        ago,
        clock,
        lately,
        since,
        host,
        action_words,
        cause_words,
        shortened,
        fact,
        milliseconds,
        with_code,
    ):
        app.add_template_filter(function)
    app.add_template_filter(lambda method: METHODS.get(method, method), "method_name")
    app.add_template_filter(lambda cause: HANDSHAKE_CAUSES.get(cause, cause), "handshake_cause")
    app.add_template_filter(lambda plane: DATA_PLANES.get(plane, plane or "unknown"), "data_plane_name")
