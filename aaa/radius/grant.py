"""Class: what was decided, sealed, so that accounting knows whose session it is without having to remember.

    Class   "ost1" | MAC 16 | JSON, in as many attributes as it needs

The client returns it unmodified in each accounting record (RFC 2865 section 5.25). It goes over the network as the
User-Name does, readable but not to be changed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence

from aaa.interface import Access
from aaa.radius.wire import join_values, split_value
from core.secrets import Secret

_MARK = b"ost1"
_MAC_BYTES = 16


class GrantSealer:
    """Seals and opens; all RADIUS servers of a database have the same key."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def seal(self, access: Access, client: str) -> list[bytes]:
        """The values of Class.

        Args:
            access: what was decided.
            client: the network access server, which alone may bring it back.
        """
        fields = [
            access.user_name,
            access.device_id,
            access.device_name,
            access.method,
            access.rule,
            access.certificate_serial,
            access.certificate_authority,
            access.managed,
        ]
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        return split_value(_MARK + self._mac(body, client) + body)

    def open(self, values: Sequence[bytes], client: str) -> Access | None:
        """What was decided, as far as accounting needs it; None where the values are not a grant to this client."""
        joined = join_values(values)
        mark, mac, body = joined[:4], joined[4 : 4 + _MAC_BYTES], joined[4 + _MAC_BYTES :]
        if mark != _MARK or not hmac.compare_digest(mac, self._mac(body, client)):
            return None
        fields = json.loads(body)
        user_name, device_id, device_name, method, rule, serial, authority, managed = fields
        return Access(
            user_name=user_name,
            device_id=device_id,
            device_name=device_name,
            method=method,
            rule=rule,
            reason="",
            pool=None,
            networks=(),
            dns=(),
            session_lifetime_s=0.0,
            interim_interval_s=0.0,
            certificate_serial=serial,
            certificate_authority=authority,
            managed=managed,
        )

    def _mac(self, body: bytes, client: str) -> bytes:
        """Bound to the client: the name is of a length that it can't be taken for the beginning of a body."""
        name = client.encode()
        message = len(name).to_bytes(1, "big") + name + body
        return hmac.digest(self._key.reveal(), message, hashlib.sha256)[:_MAC_BYTES]
