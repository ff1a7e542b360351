"""The gateways that report here: how one is drained, and how one that is gone for good is taken off the list."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from aaa.accounting import close_left_open
from aaa.dynamic_authorization import NoAnswer, Peer, WholeGateway, ask, control_secret_name
from aaa.interface import TerminateCause
from aaa.models import Gateway
from core import audit
from core.audit import Actor
from core.clock import utc_now
from core.errors import ConflictError, NotFoundError
from core.runtime import Runtime
from core.secrets import StoredSecret, get_or_create_secret

QUIET_BEFORE_FORGOTTEN = timedelta(minutes=2)
"""A gateway at work is heard of several times a minute."""


def forget_gateway(session: Session, name: str, actor: Actor) -> int:
    """Take a dismantled gateway off the list: no revocation waits for its answer any more.

    Its open sessions are closed, its shared secret is deleted, and what was still to be told to it counts as done.
    A gateway that starts again reports here again.

    Returns:
        How many sessions were left open.

    Raises:
        NotFoundError: there is no such gateway.
        ConflictError: it is at work. Forgotten, it would go on and be told of no revocation.
    """
    gateway = session.get(Gateway, name, with_for_update=True)
    if gateway is None:
        raise NotFoundError(f"there is no gateway {name!r}", fix="`ostiary gateways list` shows them")
    if utc_now() - gateway.last_seen_at < QUIET_BEFORE_FORGOTTEN:
        raise ConflictError(f"gateway {name} is at work", fix="stop it, and try again two minutes later")
    closed = close_left_open(session, name, TerminateCause.NAS_ERROR)
    secret = session.get(StoredSecret, control_secret_name(name))
    if secret is not None:
        session.delete(secret)
    session.delete(gateway)
    audit.record(session, actor, "gateway.forget", f"gateway:{name}", detail={"sessions_left_open": closed})
    return closed


def drain_gateway(runtime: Runtime, name: str, what: WholeGateway, actor: Actor) -> str:
    """Have a gateway send its clients to others, or take them in again; until it is told otherwise, or starts anew.

    Returns:
        What it said.

    Raises:
        NotFoundError: there is no such gateway.
        NoAnswer: it does not answer.
        ConflictError: it refused, because it knows no other gateway.
    """
    with runtime.database.transaction() as session:
        gateway = session.get(Gateway, name)
        if gateway is None:
            raise NotFoundError(f"there is no gateway {name!r}", fix="`ostiary gateways list` shows them")
        secret = get_or_create_secret(session, runtime.box, control_secret_name(name))
        peer = Peer(name, gateway.control_address, gateway.control_port, secret)
        # Before it is told, so that nothing happens that nobody knows of; what came of it, the next event says.
        audit.record(session, actor, f"gateway.{what.value}", f"gateway:{name}")
    problem = ""
    try:
        answer = ask(peer, what)
        if not answer.acknowledged:
            problem = f"gateway {name} knows no other gateway to send its clients to"
    except NoAnswer as error:
        problem = error.message
        raise
    finally:
        if problem:
            with runtime.database.transaction() as session:
                audit.record(
                    session, actor, f"gateway.{what.value}", f"gateway:{name}", outcome="failed", reason=problem
                )
    if problem:
        raise ConflictError(problem, fix="name some in gateway.redirect_targets")
    return answer.text
