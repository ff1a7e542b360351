"""IKE_INTERMEDIATE (RFC 9242) with libreswan on the other side: what AUTH covers, by an implementation not of ours.

libreswan 4.10 makes this exchange with nothing in it, and without additional key exchanges; so it shows IntAuth, not
ML-KEM. It answers here, and our own initiator asks. Two things it makes otherwise than RFC 9242 does. Of a message
that came in fragments it covers something else, so here messages are whole. And in its own proof the responder's half
of IntAuth goes first, though in that which it verifies the initiator's does; so here the halves are swapped for it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.ike.constants import Encr, ExchangeType, Group, Integ, NotifyType, PayloadType, Prf
from gateway.ike.exchanges.ike_intermediate import Intermediate
from gateway.ike.fragments import Fragment
from gateway.ike.message import Payloads, chain
from gateway.ike.path import Path
from gateway.ike.payloads.auth import Auth
from gateway.ike.payloads.identification import Identification
from gateway.ike.payloads.notify import notify_payload
from gateway.ike.proposals import IkeSuite
from gateway.ike.selectors import TrafficSelector
from tests.lab.certificates import LabAuthority, certificate_pem
from tests.lab.libreswan import LibreswanClient, LibreswanConfig
from tests.lab.namespaces import Lab, Namespace, link
from tests.peers.initiator import Initiator, InitiatorConfig, Phase

pytestmark = pytest.mark.interop

ANSWERING, ASKING = "10.77.0.1", "10.77.0.2"
INSIDE, HERE = "10.1.0.0/24", "10.2.0.0/24"
IKE_PORT = 500
TIMEOUT_S = 10.0
MAX_MESSAGES = 20


class Swapped(Intermediate):
    """IntAuth of the responder before that of the initiator."""

    def take(self, usual: Intermediate) -> None:
        """What the usual one has, the other way round."""
        self._auth_i, self._auth_r, self._made = usual._auth_r, usual._auth_i, usual._made


class WithIntermediate(Initiator):
    """Makes one IKE_INTERMEDIATE without a key exchange."""

    content: tuple[tuple[PayloadType, bytes], ...] = ()

    def _begin_next_exchange(self) -> None:
        if self.message_id > 1:
            self._send_first_auth()
            return
        self.intermediate = Intermediate(self.suite.prf, (Group.NONE,))
        datagrams = self.request(ExchangeType.IKE_INTERMEDIATE, self.content)
        self.intermediate.cover_request(self.current_keys, Fragment(*chain(self.content), datagrams[0]))

    def verify_gateway(self, payloads: Payloads, auth: Auth) -> None:
        """Its proof, as it makes it."""
        usual, swapped = self.intermediate, Swapped(self.suite.prf, ())
        swapped.take(usual)
        self.intermediate = swapped
        super().verify_gateway(payloads, auth)
        self.intermediate = usual

    def _receive_intermediate(self, payloads: Payloads) -> None:
        assert payloads.whole is not None
        self.intermediate.cover_response(self.current_keys, payloads.whole)
        self._begin_next_exchange()


class WithContent(WithIntermediate):
    """And something in it."""

    content = (
        notify_payload(NotifyType.SET_WINDOW_SIZE, b"\0\0\0\1"),
        (PayloadType.VENDOR_ID, bytes(range(200)) * 4),
    )


class Forgetful(WithContent):
    """Leaves it out of its AUTH."""

    def _send_first_auth(self) -> None:
        self.intermediate = Intermediate(self.suite.prf, ())
        super()._send_first_auth()


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[Lab, Namespace, Namespace]]:
    """Two machines on one link."""
    with Lab() as lab:
        answering, asking = lab.namespace("answering"), lab.namespace("asking")
        link(
            answering,
            asking,
            names=("eth0", "eth0"),
            first_addresses=[f"{ANSWERING}/24"],
            second_addresses=[f"{ASKING}/24"],
        )
        yield lab, answering, asking


@pytest.fixture(scope="module")
def authority() -> LabAuthority:
    """Whom both trust."""
    return LabAuthority.root()


@pytest.fixture(scope="module")
def libreswan(namespaces: tuple[Lab, Namespace, Namespace], authority: LabAuthority) -> Iterator[LibreswanClient]:
    """It answers, with IKE_INTERMEDIATE."""
    lab, answering, _ = namespaces
    config = LibreswanConfig(
        local_address=ANSWERING,
        remote_address=ASKING,
        remote_identity="asking.example",
        trust_pem=certificate_pem(authority.certificate),
        credential=authority.issue("answering.example", [x509.DNSName("answering.example")], usage="server"),
        changes={"leftmodecfgclient": "", "leftsubnet": INSIDE, "rightsubnet": HERE, "intermediate": "yes"},
    )
    with LibreswanClient(answering, config, lab.directory / "libreswan") as libreswan:
        yield libreswan


def connect(asking: Namespace, authority: LabAuthority, kind: type[Initiator]) -> Initiator:
    """Our initiator, as far as it gets."""
    identity = authority.issue("asking.example", [x509.DNSName("asking.example")], usage="client")
    config = InitiatorConfig(
        identity=Identification.fqdn("asking.example"),
        suite=IkeSuite(Encr.AES_GCM_16, 256, Integ.NONE, Prf.HMAC_SHA2_256, Group.ECP_256),
        chain_der=(identity.certificate.public_bytes(Encoding.DER),),
        private_key=identity.key,
        announce_intermediate=True,
        ask_ipv4=False,
        initiator_selectors=(TrafficSelector.from_network(IPv4Network(HERE)),),
        responder_selectors=(TrafficSelector.from_network(IPv4Network(INSIDE)),),
    )
    initiator = kind(config, Path(ASKING, IKE_PORT, ANSWERING, IKE_PORT))
    initiator.start()
    with asking.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind((ASKING, IKE_PORT))
        sock.settimeout(TIMEOUT_S)
        for _ in range(MAX_MESSAGES):
            for datagram in initiator.datagrams_to_send():
                sock.sendto(datagram, (ANSWERING, IKE_PORT))
            if initiator.phase in (Phase.ESTABLISHED, Phase.FAILED):
                return initiator
            initiator.receive_datagram(sock.recv(65535))
    raise AssertionError("the two go on for ever")


@pytest.mark.parametrize("kind", [WithIntermediate, WithContent])
def test_both_sides_cover_the_same(
    namespaces: tuple[Lab, Namespace, Namespace],
    authority: LabAuthority,
    libreswan: LibreswanClient,
    kind: type[Initiator],
) -> None:
    initiator = connect(namespaces[2], authority, kind)
    assert NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED in initiator.gateway_announced
    assert "responder processed IKE_INTERMEDIATE" in libreswan.log()
    # The initiator has verified libreswan's AUTH, and libreswan the initiator's.
    assert (initiator.phase, initiator.error) == (Phase.ESTABLISHED, "")
    assert len(initiator.intermediate.int_auth) == 32 + 32 + 4


def test_who_does_not_cover_it_is_refused(
    namespaces: tuple[Lab, Namespace, Namespace], authority: LabAuthority, libreswan: LibreswanClient
) -> None:
    initiator = connect(namespaces[2], authority, Forgetful)
    assert (initiator.phase, initiator.error) == (Phase.FAILED, "AUTHENTICATION_FAILED")
    assert "authentication failed" in libreswan.log()
