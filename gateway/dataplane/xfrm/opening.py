"""Opening the kernel data plane: what a killed gateway left is removed, the device to the clients is made."""

from __future__ import annotations

import contextlib

import structlog

from core.errors import OstiaryError
from core.settings import GatewaySettings
from gateway.dataplane import links
from gateway.dataplane.interface import DataPlaneEvents
from gateway.dataplane.links import LinkMissing, LinkSettings
from gateway.dataplane.xfrm.hashing import BY_REMOTE_ADDRESS, KERNELS_OWN
from gateway.dataplane.xfrm.lineages import Reqids
from gateway.dataplane.xfrm.ownership import AlreadyOwned, Ownership, guard, remove_leftovers
from gateway.dataplane.xfrm.plane import KernelPlane, Loop
from gateway.dataplane.xfrm.sockets import KernelSilent, XfrmEvents, XfrmSocket
from gateway.dataplane.xfrm.structures import Command

_log = structlog.get_logger(__name__)


def open_kernel_plane(
    loop: Loop, settings: GatewaySettings, link: LinkSettings, events: DataPlaneEvents, why: str
) -> KernelPlane:
    """Take over the kernel's ESP, as far as it is this gateway's.

    Args:
        loop: watches the kernel's events.
        settings: whether there is to be an XFRM interface, and the number that marks what is ours.
        link: the device to the clients.
        events: told of lifetimes, and of clients that move.
        why: the kernel, half a sentence for the operator.

    Raises:
        OstiaryError: it can't; nothing is left behind.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(Ownership.claim(settings.xfrm_id).close)
        try:
            xfrm, heard = undo.enter_context(XfrmSocket()), undo.enter_context(contextlib.closing(XfrmEvents()))
            reqids = Reqids(settings.xfrm_id)
            mark = _mark(settings)
            _clean(xfrm, reqids, mark)
            undo.callback(_clean, xfrm, reqids, mark)
            _hash_by_client(xfrm, undo)
            if_id = _make_link(settings, link, mark)
            guard(xfrm, reqids, link, through_interface=bool(if_id))
        except KernelSilent as error:
            raise _unusable(str(error)) from error
        except OSError as error:
            raise _unusable(error.strerror or str(error)) from error
        way = f"the XFRM interface {link.name}" if if_id else f"policies, with the device {link.name} for the routes"
        return KernelPlane(
            loop,
            xfrm,
            heard,
            events,
            reqids,
            if_id=if_id,
            description=f"kernel, through {way}: {why}",
            release=undo.pop_all().close,
        )


def remove_what_a_kernel_plane_left(settings: GatewaySettings) -> None:
    """Where another data plane is opened: policies of a killed gateway would stand in its way.

    Raises:
        OstiaryError: they can't be removed.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.callback(Ownership.claim(settings.xfrm_id).close)
            xfrm = stack.enter_context(XfrmSocket())
        except AlreadyOwned:
            return  # They are not left, but in use.
        except OSError:
            return  # There is no XFRM here.
        try:
            _clean(xfrm, Reqids(settings.xfrm_id), _mark(settings))
        except KernelSilent as error:
            raise _unusable(str(error)) from error


def _hash_by_client(xfrm: XfrmSocket, undo: contextlib.ExitStack) -> None:
    """What is hashed changes no packet's fate, of this program or another; it is set back in the end all the same."""
    before = xfrm.hash_thresholds()
    if before == BY_REMOTE_ADDRESS:
        # A gateway that was killed has left it.
        before = KERNELS_OWN
    if before is not None:
        undo.callback(xfrm.execute, [(Command.NEWSPDINFO, before.to_bytes())])
        xfrm.execute([(Command.NEWSPDINFO, BY_REMOTE_ADDRESS.to_bytes())])


def _unusable(reason: str) -> OstiaryError:
    return OstiaryError(f"the kernel's IPsec can't be used: {reason}", fix='set gateway.data_plane = "userspace"')


def _mark(settings: GatewaySettings) -> str:
    return f"ostiary gateway, xfrm_id {settings.xfrm_id}"


def _clean(xfrm: XfrmSocket, reqids: Reqids, mark: str) -> None:
    found = remove_leftovers(xfrm, reqids)
    devices = links.remove_marked(mark)
    if found.states:
        _log.warning(
            "an earlier gateway left child SAs in the kernel; they are gone now",
            states=found.states,
            policies=found.policies,
            devices=devices,
        )


def _make_link(settings: GatewaySettings, link: LinkSettings, mark: str) -> int:
    """Make the device to the clients; the if_id of an XFRM interface, 0 for another one."""
    if_id = settings.xfrm_id << 24
    if settings.xfrm_interface != "off":
        try:
            links.make(link, "xfrm", mark=mark, if_id=if_id)
        except LinkMissing as error:
            if settings.xfrm_interface == "on":
                raise OstiaryError(
                    'gateway.xfrm_interface = "on": this kernel has no XFRM interfaces',
                    fix='`modprobe xfrm_interface`, or set gateway.xfrm_interface = "auto"',
                ) from error
        else:
            return if_id
    try:
        links.make(link, "dummy", mark=mark)
    except LinkMissing as error:
        raise OstiaryError(
            "this kernel has neither XFRM interfaces nor dummy devices; one of them has to carry the clients' routes",
            fix='`modprobe dummy`, or set gateway.data_plane = "userspace"',
        ) from error
    return 0
