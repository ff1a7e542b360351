import pytest

from aaa.eap.server import Failed
from aaa.eap.tls import TlsVersion
from tests.peers.eap import TlsPeer
from tests.unit.aaa.eap.authority import house
from tests.unit.aaa.eap.conversation import peer_of, tls_sign_in

BOTH = pytest.mark.parametrize("version", TlsVersion)


class Meddler(TlsPeer):
    """Changes one answer."""

    change_at = -1
    change_to = b"\0"

    def answer(self, data: bytes) -> bytes:
        answer = super().answer(data)
        self.change_at -= 1
        return self.change_to if self.change_at == -1 else answer


@BOTH
@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x20",
        b"\x80",
        b"\x00" + bytes(200),
        b"\x00\x17\x03\x03\x00\x01\x00",
        b"\x00\x15\x03\x03\x00\x02\x01\x00",
        b"\x00GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_no_answer_can_be_replaced(version: TlsVersion, place: int, data: bytes) -> None:
    here = house()
    plain = tls_sign_in(peer_of(here.laptop, version))
    peer = Meddler("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
    peer.change_at, peer.change_to = place, data
    done = tls_sign_in(peer)
    if place >= len(plain.responses) - 1:
        assert done.authenticated
    else:
        assert done.failed.code == "protocol-error"


@BOTH
def test_a_missing_flight_is_never_a_success(version: TlsVersion) -> None:
    here = house()
    for place in range(8):
        peer = Meddler("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
        peer.change_at, peer.change_to = place, b"\0"
        done = tls_sign_in(peer)
        if isinstance(done.step, Failed):
            assert done.failed.code == "protocol-error"
        else:
            assert peer.msk == done.authenticated.msk


@BOTH
def test_data_behind_the_handshake_is_refused(version: TlsVersion) -> None:
    class Talker(TlsPeer):
        def advance(self, message: bytes) -> bytes:
            before = self._progress
            flight = super().advance(message)
            if before is not self._progress:
                self._connection.send(b"hello")
                flight += self._drain()
            return flight

    here = house()
    peer = Talker("x", here.laptop.chain, here.laptop.key, [here.root.der], version)
    assert tls_sign_in(peer).failed.code == "protocol-error"


def test_a_flight_in_two_messages_is_taken() -> None:
    class Hesitant(TlsPeer):
        held = b""

        def advance(self, message: bytes) -> bytes:
            if self.held:
                flight, self.held = self.held, b""
                return flight
            flight = super().advance(message)
            half = len(flight) // 2
            self.held = flight[half:]
            return flight[:half]

    here = house()
    peer = Hesitant("x", here.laptop.chain, here.laptop.key, [here.root.der], TlsVersion.TLS_1_3)
    assert tls_sign_in(peer).authenticated.chain_der[0] == here.laptop.der
