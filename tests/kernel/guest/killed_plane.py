"""`python -m tests.kernel.guest.killed_plane on|off`: a gateway's kernel plane with a child SA, killed."""

from __future__ import annotations

import os
import signal
import sys
from typing import cast

from tests.kernel.guest.planes import Planes, Road, child_sa


def main(xfrm_interface: str) -> None:
    """Open, install, die."""
    # Nothing but the gateway's plane is opened, in the namespace that this process runs in.
    planes = Planes(cast(Road, None), xfrm_interface=xfrm_interface)
    planes.open_gateway().install(child_sa())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
