"""The TUN device: where inner packets leave for the network and come from it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from core.errors import OstiaryError
from gateway.dataplane.links import LinkSettings, set_up
from gateway.dataplane.userspace.offload import VNET_HEADER_BYTES, Parts

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")

QUEUE_PACKETS = 1000
"""Packets that wait for us in the kernel: some 8 ms at 1.4 Gbit/s; the kernel's 500 drop a burst of one stream."""


class DeviceGone(Exception):
    """Someone deleted the device from under us."""


class TunDevice:
    """An open TUN device with its addresses and routes.

    The kernel segments what is larger than the MTU before it reaches us, checksums included: doing that here was
    measured to cost more than the read calls it saves. Towards the kernel, packets may be large (see `offload`).

    The device is not persistent, so it and all that hangs on it is gone once it is closed, or the process ends.
    """

    def __init__(self, descriptor: int, settings: LinkSettings) -> None:
        self._descriptor = descriptor
        # A packet that does not fit is cut off by the kernel and then refused by its own length field.
        self._read_bytes = VNET_HEADER_BYTES + settings.mtu_bytes

    @classmethod
    def open(cls, settings: LinkSettings) -> TunDevice:
        """Make the device and set it up.

        Raises:
            OstiaryError: no TUN here, no permission, or a name or network that is taken; nothing is left behind.
        """
        descriptor = _create(settings.name)
        try:
            set_up(settings, queue_packets=QUEUE_PACKETS)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, settings)

    def fileno(self) -> int:
        """For the event loop."""
        return self._descriptor

    def read(self) -> bytes | None:
        """The next packet for a client; None when there is none for now.

        Raises:
            DeviceGone: there will never be one again.
        """
        try:
            return os.read(self._descriptor, self._read_bytes)[VNET_HEADER_BYTES:]
        except BlockingIOError:
            return None
        except OSError as error:
            raise DeviceGone(os.strerror(error.errno or 0)) from error

    def write(self, parts: Parts) -> bool:
        """Hand one packet to the kernel; False where it did not take it."""
        try:
            os.writev(self._descriptor, parts)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Remove the device, and with it addresses and routes."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _create(name: str) -> int:
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OstiaryError(
            f"the userspace data plane can't open {_DEVICE}: {error.strerror}",
            fix=f"`modprobe tun`, or `--device {_DEVICE}` for a container, and run as root",
        ) from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError as error:
        os.close(descriptor)
        fixes = {
            errno.EPERM: "run the gateway as root, or give it CAP_NET_ADMIN",
            errno.EBUSY: "stop the other gateway, or set another gateway.link_name",
        }
        raise OstiaryError(
            f"the TUN device {name} can't be made: {error.strerror}",
            fix=fixes.get(error.errno or 0, "set another gateway.link_name"),
        ) from error
    return descriptor
