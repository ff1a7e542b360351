"""Many sign-ins under way at the same time: each gets its own answer, and they share their transactions."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import event, func, select

from aaa.interface import EapAccepted, EapContinue, EapRejected, EapReply, Refusal, TerminateCause
from aaa.models import TunnelSession
from core.runtime import Runtime
from tests.peers.eap import EapPeer, MsChapV2Peer
from tests.unit.aaa.driver import Driver, context, session_start, usage
from tests.unit.aaa.installation import open_runtime
from tests.unit.aaa.people import Enrolled, certify, enrol, tls_peer

ROUNDS = 12


class _Load:
    """Runs sign-ins of all kinds side by side on the driver's loop, each through to the end of its session."""

    def __init__(self, driver: Driver, devices: list[Enrolled]) -> None:
        self.driver = driver
        self.devices = devices
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.started = 0

    def begin(self, expected: str, number: int, peer: EapPeer) -> None:
        self.started += 1
        sign_in = context(sign_in_id=str(number), remote_address=f"10.0.{number // 200}.{number % 200}")
        eap = self.driver.backend.open_eap(sign_in)

        def reply(answer: EapReply) -> None:
            if isinstance(answer, EapContinue):
                response = peer.receive(answer.packet)
                assert response is not None
                eap.receive(response, reply)
            elif isinstance(answer, EapRejected):
                self.outcomes[expected, answer.refusal.code] += 1
            else:
                self._account(expected, answer, number)

        eap.start(reply)

    def _account(self, expected: str, accepted: EapAccepted, number: int) -> None:
        session_id = f"session-{number}"
        owner = self.devices[number % len(self.devices)]
        assert (accepted.access.device_id, accepted.access.user_name) == (owner.id, owner.owner)

        def started(refusal: Refusal | None) -> None:
            assert refusal is None
            for count in (1, 2):
                self.driver.backend.session_updated(usage(session_id, count))
            self.driver.backend.session_ended(usage(session_id, 3), TerminateCause.USER_REQUEST)
            self.outcomes[expected, "accepted"] += 1

        self.driver.backend.session_started(session_start(accepted.access, session_id), started)


def test_many_sign_ins_at_once(runtime: Runtime) -> None:
    with open_runtime(runtime.settings.state_dir.parent / "load", failures_per_minute=10_000) as installation:
        devices = [enrol(installation, f"user-{n}", f"device-{n}") for n in range(6)]
        certificates = [certify(installation, device.id) for device in devices]
        commits = [0]
        event.listen(installation.database.engine, "commit", lambda _: commits.__setitem__(0, commits[0] + 1))
        with Driver(installation) as driver:
            load = _Load(driver, devices)
            number = 0
            for _ in range(ROUNDS):
                for index, device in enumerate(devices):
                    issued, authority = certificates[index]
                    peers: dict[str, EapPeer] = {
                        "accepted": MsChapV2Peer(device.owner, device.code),
                        "wrong-credential": MsChapV2Peer(device.owner, "wrong"),
                        "unknown-user": MsChapV2Peer(f"nobody-{number}", device.code),
                        "accepted-tls": tls_peer(device.name, issued, authority),
                    }
                    for position, (expected, peer) in enumerate(peers.items()):
                        load.begin(expected, number + position * len(devices), peer)
                    number += 1
                number += 3 * len(devices)
            driver.pump(lambda: load.outcomes.total() == load.started)
        each = ROUNDS * len(devices)
        assert load.outcomes == {
            ("accepted", "accepted"): each,
            ("wrong-credential", "wrong-credential"): each,
            ("unknown-user", "unknown-user"): each,
            ("accepted-tls", "accepted"): each,
        }
        # The chain of the audit log holds; `events` checks it.
        written = Counter(found["action"] for found in driver.events())
        assert (written["sign-in.accept"], written["sign-in.refuse"]) == (2 * each, 2 * each)
        with installation.database.reading() as session:
            totals = session.execute(
                select(func.count(), func.sum(TunnelSession.packets_in)).where(
                    TunnelSession.terminate_cause == "USER_REQUEST"
                )
            ).one()
            assert tuple(totals) == (2 * each, 2 * each * 3)
        assert commits[0] < load.started / 2, "each sign-in alone would take two transactions or three"
