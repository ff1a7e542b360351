"""What a directory's word for somebody proves: who the user is, and nothing about a device."""

from __future__ import annotations

import uuid

from aaa.backend.requests import Proof, Vouched
from aaa.directory.model import DirectoryUser

_HOLDERS = uuid.UUID("7f0c3f0e-2f0a-5d0b-9a53-3b8f6c8a1d42")
"""Names the space of the ids that people without a device have."""


def proof_of(person: DirectoryUser, identity: str, method: str) -> Proof:
    """The proof that a directory has taken the person's password.

    It is decided on as a certificate is that another CA gave a user: the user is known, the device is `unmanaged`,
    unless the device has proved itself by a certificate before.

    Args:
        person: who signed in.
        identity: as the peer gave it.
        method: by which the password came.
    """
    holder = str(uuid.uuid5(_HOLDERS, f"{person.directory}:{person.id}"))
    vouched = Vouched(
        authority=person.directory,
        names_user=True,
        user_names=(person.name,),
        device_id="",
        device_names=(),
        holder_id=holder,
        revocation="",
        holder_name=f"{person.directory}/{person.name}",
    )
    return Proof(method, identity, "", vouched=vouched)
